"""A small team in float64, episodes as production plays them, and the learner on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from builders import small_model
from toy_envs import LettersEnv

from collm.algorithms.registry import has_critics, make_method
from collm.config.load import config_from
from collm.config.schema import Config
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.team import Team, build_team
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.training.buffer import Stored
from collm.training.credit import Credits
from collm.training.learner import Learner
from collm.types import Episode

NAMES = ["agent_0", "agent_1"]
GAMMA = 0.9
START = Progress(0, 10)
Grads = dict[str, dict[str, torch.Tensor]]


# -- a team, episodes and a learner --------------------------------------------------------------------------------------


def configured(method: str = "collm-cc", n: int = 2, agents: dict[str, Any] | None = None, **sections: Any) -> Config:
    """A configuration for live models; advantages are left as they are unless asked otherwise."""
    algorithm = {"discount": GAMMA, "advantage_normalization": "off", **sections.pop("algorithm", {})}
    one = {"model": "x", "max_new_tokens": 5, **(agents or {})}
    return config_from({"method": method, "agents": [one] * n, "algorithm": algorithm, **sections})


def team_of(config: Config, seed: int = 0) -> Team:
    """Small models in float64, one per member (one base for all where adapters share it)."""
    names = NAMES[: len(config.agents)]
    method = make_method(config)
    critics = method.critics(names) if has_critics(method) else {}
    own = [] if config.critic.shared_backbone else list(critics)
    live = {name: small_model(["qwen3", "llama", "qwen3", "llama"][i], seed + i, torch.float64) for i, name in enumerate([*names, *own])}
    team = build_team(config, names, critics, 2, live)
    with torch.no_grad():  # a head at zero gives V = 0 and sends no gradient into the backbone
        for i, c in enumerate(team.critics.values()):
            head = c.host.members[c.member].value_head.linear
            for p in (head.weight, head.bias):
                p.normal_(0, 0.3, generator=torch.Generator().manual_seed(7 + i))
            m = c.host.members[c.member]
            m.slow = [p.detach().clone() for p in m.parameters] if m.slow is not None else None
    return team


def rolled_out(
    config: Config, team: Team, count: int = 3, turns: int = 2, keep_cut: bool = False, update: int = 0, steps: int = 0, **env: Any
) -> list[Episode]:
    """Episodes as production plays them, in float64."""
    method = make_method(config)
    tree = config.monte_carlo
    shape = TreeShape() if has_critics(method) else TreeShape(tree.samples, tree.joint_mode, method.plays_greedy)
    settings = RolloutSettings(
        config.history,
        config.context_window,
        greedy=False,
        update=update,
        in_flight=8,
        tree=shape,
        keep_cut=keep_cut,
        stamp=lambda: (update, steps),
    )
    plans = [EpisodePlan(f"u{update}e{i}", None, 1000 * update + i) for i in range(count)]
    # So many letters that random text earns something, and not always the same.
    env = {"letters": "".join(map(chr, range(32, 127))), **env}
    with ThreadPoolExecutor(1) as executor:
        return collect(plans, lambda: LettersEnv(len(config.agents), turns, **env), team.policies, settings, executor, lambda: None)[0]


@contextmanager
def learning(config: Config, team: Team):
    with ThreadPoolExecutor(1) as executor:
        yield Learner(config, team, make_method(config), executor)


def all_of(episodes: list[Episode]) -> list[Stored]:
    return [Stored(e, i) for e in episodes for i in range(len(e.transitions))]


def credits_of(config: Config, team: Team, episodes: list[Episode]) -> Credits:
    with learning(config, team) as learner:
        return learner._credits([s for s in all_of(episodes) if not s.transition.greedy], None)[0]


def gradients(config: Config, team: Team, episodes: list[Episode], monkeypatch) -> tuple[list[Grads], dict[str, float]]:
    """The gradient of every member at each step of one update, none of which is taken; and the update's metrics."""
    steps: list[Grads] = []
    seen: set[str] = set()

    def keep(self: Host, member: str, at: Progress) -> float:
        if not steps or member in seen:
            steps.append({})
            seen.clear()
        seen.add(member)
        m = self.members[member]
        names = {id(p): n for n, p in self.loaded.model.named_parameters()}
        steps[-1][member] = {
            names.get(id(p), "head"): torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in m.parameters if p.ndim == 2
        }
        m.optimizer.zero_grad(set_to_none=True)
        return 0.0

    with monkeypatch.context() as patch, learning(config, team) as learner:
        patch.setattr(Host, "step", keep)
        learner.store(all_of(episodes))
        metrics = learner.update(START)
    return steps, metrics
