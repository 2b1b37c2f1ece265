"""Rollouts of small random models on toy environments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from builders import small_model
from toy_envs import LettersEnv

from collm.config.schema import AgentConfig, Config, CriticConfig, LoraConfig
from collm.models.team import Team, build_team
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.types import Episode

WINDOW = 600


def make_team(n: int, *, lora: bool = False, seed: int = 0, tokens: int = 4, window: int = WINDOW, history="full") -> Team:
    """n agents on models of their own, or as adapters on one base."""
    section = {"tuning": "lora", "lora": LoraConfig(rank=2)} if lora else {}
    agents = [AgentConfig(model="x", max_new_tokens=tokens, temperature=1.0 + 0.2 * i, **section) for i in range(n)]
    config = Config(method="magrpo", agents=agents, critic=CriticConfig(), history=history, context_window=window)
    names = [f"agent_{i}" for i in range(n)]
    architectures = ["qwen3", "llama", "gpt2"]
    return build_team(config, names, {}, 2, {name: small_model(architectures[i % 3], seed + i) for i, name in enumerate(names)})


def play(
    team: Team,
    tree: TreeShape,
    env=LettersEnv,
    plans: int = 1,
    in_flight: int = 8,
    history="full",
    window: int = WINDOW,
    stepper=None,
    **settings,
) -> tuple[list[Episode], RolloutCost]:
    with ThreadPoolExecutor(1) as executor:
        return collect(
            [EpisodePlan(f"e{i}", None, 100 + i) for i in range(plans)],
            env,
            team.policies,
            RolloutSettings(history, window, greedy=False, update=3, in_flight=in_flight, tree=tree, **settings),
            executor,
            lambda: None,
            stepper=stepper,
        )
