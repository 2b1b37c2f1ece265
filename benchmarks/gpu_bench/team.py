"""The paper's coding team under CoLLM-CC: seconds per update and per sample, and the peak of memory."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from collm.algorithms.registry import has_critics, make_method
from collm.config.load import resolve
from collm.config.schema import Config
from collm.models import team as team_module
from collm.models.loading import LoadedModel
from collm.models.optim import Progress
from collm.models.seeds import derive_seed
from collm.models.team import Team, agent_names, build_team
from collm.models.workers import host_workers
from collm.rollout.branch import EpisodePlan, RolloutSettings
from collm.rollout.collect import collect
from collm.training.buffer import Stored
from collm.training.learner import Learner
from gpu_bench.machine import free_bytes, peak_gb, random_model, release, wait
from gpu_bench.results import CaseFailed, Clock, Results, attempt, needs_memory, run_cases
from gpu_bench.shapes import Shape, Sizes, Tuning

TURNS = 2
PAPER_EPISODES = 2
"""Two episodes of two turns are the four samples of an update."""
REPEATS = 2


class Words:
    """A dialogue of fixed length between two agents: so many words first, so many after each joint action."""

    def __init__(self, sizes: Sizes) -> None:
        self.possible_agents = agent_names(2)
        self.agents: list[str] = []
        self._sizes = sizes
        self._turn = 0
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        self._turn, self.agents = 0, list(self.possible_agents)
        self._rng = np.random.default_rng(seed)
        return self._told(self._sizes.prompt_words), {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        self._turn += 1
        agents, over = self.agents, self._turn >= TURNS
        reward = sum(map(len, actions.values())) % 97 / 97
        if over:
            self.agents = []
        told = self._told(self._sizes.feedback_words)
        return told, dict.fromkeys(agents, reward), dict.fromkeys(agents, False), dict.fromkeys(agents, over), {a: {} for a in agents}

    def state(self) -> dict[str, Any]:
        return {"text": f"w{self._turn + 1} w9", "features": np.zeros(1, dtype=np.float32)}

    def close(self) -> None:
        pass

    def _told(self, words: int) -> dict[str, str]:
        return {a: " ".join(f"w{i}" for i in self._rng.integers(10, 1000, words)) for a in self.possible_agents}


def measure(results: Results, clock: Clock, device: torch.device, sizes: Sizes, tuning: Tuning) -> None:
    """The paper's schedule, then more episodes in flight, with one team."""
    section = f"team_{tuning}"
    release(device)
    # With adapters aux and critic are two of them on one base.
    bases = [sizes.aux, sizes.main] if tuning == "lora" else [sizes.aux, sizes.main, sizes.aux]
    needs_memory(bases, tuning, free_bytes(device), f"the team, {tuning}")
    clock.needs(2, f"the team, {tuning}")
    config = configuration(sizes, tuning, device)
    team = make_team(config, sizes, device)
    hosts = {name: sorted(host.members) for name, host in team.hosts.items()}
    results.add(section, hosts=hosts, lengths=_lengths(sizes), optimizer=config.critic.optimizer.kind)
    schedules = [("paper", PAPER_EPISODES), *((f"{n} in flight", n) for n in sizes.in_flight)]
    with host_workers(len(team.hosts)) as executor:
        works = [
            (
                {"schedule": name},
                lambda own, name=name, n=n: _schedule(results, section, own, device, config, team, sizes, executor, name, n),
            )
            for name, n in schedules
        ]
        run_cases(results, section, clock, lambda: _clear(team, device), works)


def _clear(team: Team, device: torch.device) -> None:
    """What an update that broke off left."""
    for host in team.hosts.values():
        host.discard_gradients()
        host.forget()
    release(device)


def configuration(sizes: Sizes, tuning: Tuning, device: torch.device) -> Config:
    """The paper's preset of the coding task, with the lengths that are measured here.

    Full tuning of it with 32-bit moments takes 163 GB; with bitsandbytes at hand they are kept in 8 bits.
    """
    place = [f"agents.{i}." for i in range(2)] + ["critic."]
    overrides = [f"{section}device={device.type}" for section in place]
    overrides += [f"agents.{i}.max_new_tokens={sizes.response}" for i in range(2)]
    if tuning == "lora":
        overrides += [f"{section}{setting}" for section in place for setting in ("tuning=lora", "dtype=bfloat16")]
    elif device.type == "cuda" and find_spec("bitsandbytes") is not None:
        overrides += [f"{section}optimizer.kind=adamw_8bit" for section in place]
    return resolve("coophe", method="collm-cc", preset="paper", overrides=overrides)


def make_team(config: Config, sizes: Sizes, device: torch.device) -> Team:
    """The configured team, with random models where the Hub's would be loaded."""
    shapes: dict[str, Shape] = {config.agents[0].model: sizes.aux, config.agents[1].model: sizes.main}

    def load(name: str, kind: str, dtype: torch.dtype) -> LoadedModel:
        return random_model(shapes[name], device, dtype, head=kind == "causal")

    method = make_method(config)
    if not has_critics(method):
        raise AssertionError(f"{config.method} has no critics")
    names = agent_names(2)
    with patch.object(team_module, "load_model", load):
        return build_team(config, names, method.critics(names), 1, {})


def _lengths(sizes: Sizes) -> dict[str, int]:
    return {"turns": TURNS, "prompt": sizes.prompt_words, "feedback": sizes.feedback_words, "response": sizes.response}


def _schedule(
    results: Results,
    section: str,
    clock: Clock,
    device: torch.device,
    config: Config,
    team: Team,
    sizes: Sizes,
    executor: Executor,
    schedule: str,
    episodes: int,
) -> None:
    """Whole updates, rollout and learning: one that warms up, and up to REPEATS more that count instead where there are any."""
    before = results.content["sections"][section].get("rows", [])
    clock.needs(before[-1]["seconds_first_update"] if before else 1, f"the schedule {schedule}")
    learner = Learner(config, team, make_method(config), executor)
    first = _update(device, config, team, learner, sizes, executor, episodes, 0)
    first_peak, timed = peak_gb(device), []

    def again() -> None:
        for number in range(REPEATS):
            clock.needs(sum(first.values()), f"one more update of the schedule {schedule}")
            timed.append(_update(device, config, team, learner, sizes, executor, episodes, 1 + number))

    ended = attempt(again)
    row = _row(schedule, episodes, first, timed) | {"peak_gb_first_update": first_peak["peak_gb"], **peak_gb(device)}
    results.add(section, rows=[row | ({"ended": ended["reason"]} if ended else {})])
    if ended and ended["state"] == "failed":
        raise CaseFailed("\n".join(ended["traceback"]))


def _row(schedule: str, episodes: int, first: dict[str, float], timed: list[dict[str, float]]) -> dict[str, Any]:
    best = min(timed or [first], key=lambda seconds: sum(seconds.values()))
    return {
        "schedule": schedule,
        "updates_after_the_first": len(timed),
        "episodes_in_flight": episodes,
        "samples_per_update": episodes * TURNS,
        "seconds_per_update": round(sum(best.values()), 4),
        "seconds_per_sample": round(sum(best.values()) / (episodes * TURNS), 4),
        "seconds_rollout": round(best["rollout"], 4),
        "seconds_learning": round(best["learning"], 4),
        "seconds_first_update": round(sum(first.values()), 3),
    }


def _update(
    device: torch.device, config: Config, team: Team, learner: Learner, sizes: Sizes, executor: Executor, episodes: int, number: int
) -> dict[str, float]:
    """One update as the trainer makes it; seconds of its two halves."""
    stamp = (learner.updates, learner.policy_steps)
    settings = RolloutSettings(config.history, config.context_window, greedy=False, update=number, in_flight=episodes, stamp=lambda: stamp)
    plans = [EpisodePlan(f"{number}-{k}", None, derive_seed(0, "episode", number, k)) for k in range(episodes)]
    wait(device)
    began = time.perf_counter()
    played, cost = collect(plans, lambda: Words(sizes), team.policies, settings, executor, lambda: None)
    wait(device)
    rolled_out = time.perf_counter()
    if cost.generated_tokens != 2 * episodes * TURNS * sizes.response:
        raise AssertionError(f"{cost.generated_tokens} tokens were generated: responses are not of the length they should have")
    learner.store([Stored(episode, turn) for episode in played for turn in range(len(episode.transitions))])
    learner.update(Progress(number, config.training.updates))
    wait(device)
    return {"rollout": rolled_out - began, "learning": time.perf_counter() - rolled_out}
