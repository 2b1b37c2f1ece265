"""Coding dialogues of scripted noisy programmers, played in the real environment on the compositional problems.

What they write is the project's own code, so their programs are tested in this process and not in the sandbox: tens of
thousands of episodes would take hours there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from collm.config.tasks import CoopHETask, MbppTask
from collm.envs.coding.env import CodingEnv
from collm.envs.coding.problem import Problem
from collm.sandbox import TestResult, TestStatus
from tiny_models.demos_coding_family import Composition, compositions, inputs_for, reference_aux, reference_main
from tiny_models.demos_coding_writer import write_alone, write_aux, write_main

Dialogue = list[tuple[str, str]]
"""(observation, response) per turn; with history "last" every turn is a dialogue of its own."""

Writer = Callable[[random.Random, Composition, bool], str]

_MBPP_SHARE = 0.2
_MENDS = 0.6
"""How often an agent mends what the feedback says is wrong with its own function."""
_KEEPS = 0.35
"""How often it answers the same again where only tests fail."""
_MISUSES = ("aux is not called", "aux is called and its result never used", "aux is merely wrapped")


@dataclass(frozen=True)
class Setting:
    """How one episode is played."""

    task: CoopHETask | MbppTask
    n_agents: int
    history: Literal["full", "last"]
    composition: Composition


def coding_demonstrations(rng: random.Random, episodes: int, careful: float = 0.0) -> list[Dialogue]:
    """Dialogues of all agents of `episodes` episodes; `careful` is the share of responses without noise."""
    pool = tuple(compositions())
    kept: list[Dialogue] = []
    for _ in range(episodes):
        setting = draw_setting(rng, pool)
        dialogues, _ = play(setting, rng, careful)
        for dialogue in dialogues:
            kept += [[turn] for turn in dialogue] if setting.history == "last" else [dialogue]
    return kept


def draw_setting(rng: random.Random, pool: tuple[Composition, ...]) -> Setting:
    """Mostly the preset's setting (two agents, two turns, feedback level); now and then anything else."""
    settings: dict[str, Any] = {
        "profile": "comlrl" if rng.random() < 0.1 else "paper",
        "feedback": rng.choices(["level", "passed", "plain"], [76, 14, 10])[0],
        "turns": rng.choices([1, 2, 3], [8, 84, 8])[0],
        "sandbox_slice": rng.choices([1, 0, 2], [84, 10, 6])[0],
    }
    task = MbppTask(**settings) if rng.random() < _MBPP_SHARE else CoopHETask(**settings)
    n_agents = 1 if rng.random() < 0.12 else 2
    return Setting(task, n_agents, rng.choices(["full", "last"], [75, 25])[0], rng.choice(pool))


def play(setting: Setting, rng: random.Random, careful: float) -> tuple[list[Dialogue], list[float]]:
    """One episode of scripted programmers: every agent's dialogue, and the reward of every turn."""
    env = _TrustingEnv(setting.task, setting.n_agents, setting.history)
    observations, _ = env.reset(seed=0, options={"task": _row(setting, rng)})
    names = list(env.possible_agents)
    writers: list[Writer] = [write_alone] if setting.n_agents == 1 else [write_aux, write_main]
    dialogues: dict[str, Dialogue] = {name: [] for name in names}
    rewards: list[float] = []
    while env.agents:
        actions = {}
        for name, writer in zip(names, writers, strict=True):
            previous = dialogues[name][-1][1] if dialogues[name] else None
            actions[name] = _respond(rng, writer, setting.composition, observations[name], previous, careful)
            dialogues[name].append((observations[name], actions[name]))
        observations, given, *_ = env.step(actions)
        rewards.append(given[names[0]])
    return list(dialogues.values()), rewards


def _respond(rng: random.Random, writer: Writer, composition: Composition, observation: str, previous: str | None, careful: float) -> str:
    """A fresh response; after a turn one that heeds the feedback, repeats itself or tries anew."""
    if previous is not None:
        if _complains(observation, "aux" if writer is write_aux else "solve") and rng.random() < _MENDS:
            return writer(rng, composition, True)
        if rng.random() < _KEEPS:
            return previous
    return writer(rng, composition, careful > 0 and rng.random() < careful)


def _complains(observation: str, own: str) -> bool:
    """Whether feedback of mode `level` finds fault with the agent's own function."""
    faults = (f"{own}: not found", f"{own}: returns no value", f"Syntax: error in {own},", *(_MISUSES if own == "solve" else ()))
    return any(line.startswith(faults) for line in observation.split("\nRevise ")[0].split("\n"))


def _row(setting: Setting, rng: random.Random) -> Mapping[str, Any]:
    """The composition as a row of the task's layout, with inputs of its own."""
    composition = setting.composition
    tests = [(values, composition.value(values)) for values in inputs_for(rng, composition)]
    if isinstance(setting.task, MbppTask):
        asserts = [f"assert solve({values}) == {value!r}" for values, value in tests[:3]]
        code = f"{reference_aux(composition)}\n\n{reference_main(composition)}\n"
        return {"task_id": 0, "text": composition.sentence, "code": code, "test_list": asserts, "test_setup_code": ""}
    asserts = [f"    assert candidate({values}) == {value!r}" for values, value in tests]
    return {"task_id": "", "prompt": composition.prompt, "entry_point": "solve", "test": "\n".join(["def check(candidate):", *asserts])}


class _TrustingEnv(CodingEnv):
    """Tests the scripted programs in this process."""

    def _run(self, source: str) -> tuple[TestResult, ...]:
        return tuple(_tried(source, test, self._playing) for test in self._playing.suite.asserts)


def _tried(source: str, test: str, problem: Problem) -> TestResult:
    names: dict[str, Any] = {}
    try:
        exec(_compiled(source), names)
        exec(_compiled(test), {**names, "candidate": names[problem.entry_point]})
    except AssertionError:
        return TestResult(False, TestStatus.FAILED, "AssertionError", 0.0)
    except Exception as error:  # noqa: BLE001 - whatever a slip of the scripts leads to
        return TestResult(False, TestStatus.ERROR, f"{type(error).__name__}: {error}", 0.0)
    return TestResult(True, TestStatus.PASSED, "", 0.0)


@cache
def _compiled(source: str) -> Any:
    return compile(source, "<scripted>", "exec")
