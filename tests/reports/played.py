"""Episodes made by hand, and logs of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from collm.rollout.describe import describe
from collm.types import Episode, GlobalInfo, JointTransition, StopReason, Turn

BUILD = {"blocks": [[0, 0, 0, "oak_planks"], [1, 0, 0, "stone"], [2, 2, 0, "stone"]], "target": [[0, 0, 0], [1, 0, 0], [0, 1, 0]]}
PROGRAM = {
    "program": "def aux(x):\n    return 2 * x\n\ndef solve(xs):\n    return [aux(x) for x in xs]\n",
    "tests": [
        {"test": "assert candidate([1]) == [2]", "passed": True, "error": ""},
        {"test": "assert candidate([]) == [0]", "passed": False, "error": "AssertionError"},
    ],
}


def turn(observation: str = "Build L.", text: str = "/setblock 0 0 0 stone", context: Sequence[int] = (1, 2, 3), **changes: Any) -> Turn:
    """One agent's part: three response tokens that ended by themselves."""
    values: dict[str, Any] = {"stop": StopReason.EOS, "behaviour_logprob": -2.5, "kept_mass": 1.0, "dropped_turns": 0, **changes}
    return Turn(observation=observation, context_ids=tuple(context), response_ids=(7, 8, 9), text=text, **values)


def action(turn_index: int, reward: float, turns: Mapping[str, Turn] | None = None, **changes: Any) -> JointTransition:
    """A joint action of two agents, the last of nothing unless `changes` say so."""
    return JointTransition(
        turn=turn_index,
        turns=dict(turns or {"agent_0": turn("Build L with oak."), "agent_1": turn("Build L with stone.", "")}),
        info=GlobalInfo(f"Turn {turn_index + 1}.", np.array([turn_index, 0.5], dtype=np.float32)),
        reward=reward,
        metrics={"iou": 0.5},
        **{"terminated": False, "truncated": False, **changes},
    )


def chain(rewards: Sequence[float] = (0.5, -0.25), name: str = "0000003", update: int = 0, **last: Any) -> Episode:
    """One joint action per reward; the last is truncated unless `last` says how it ends. Later prompts go on with the history."""
    actions: list[JointTransition] = []
    for t, reward in enumerate(rewards):
        before = {a: (*p.context_ids, *p.response_ids) for a, p in actions[-1].turns.items()} if actions else {}
        turns = {a: turn(f"Turn {t + 1} for {a}.", f"answer {t}", (*before.get(a, ()), 4 + t)) for a in ("agent_0", "agent_1")}
        ends = {"truncated": True, **last} if t == len(rewards) - 1 else {}
        actions.append(action(t, reward, turns, parent=t - 1 if t else None, **ends))
    return Episode(name, {"string": "L", "difficulty": 1}, 5, update, actions)


def tree() -> Episode:
    """Two turns, two aligned samples a node and a greedy baseline; leaves 5, 6 and 8, 9 and the greedy 4, 7, 10."""
    actions = [action(0, 0.1 * (k + 1), picks={"agent_0": k, "agent_1": k}, advantages={"agent_0": k - 0.5}) for k in range(2)]
    actions += [action(0, 0.9, greedy=True)]
    actions += [action(1, 0.25, parent=2, greedy=True, truncated=True)]
    for parent in range(2):
        samples = [{"reward": parent + 0.2 * k, "picks": {"agent_0": k, "agent_1": k}} for k in range(2)]
        for more in [*samples, {"reward": 0.7, "greedy": True}]:
            actions.append(action(1, more.pop("reward"), parent=parent, truncated=True, **more))
    return Episode("0000011", None, 6, 1, actions)


def write_log(run_dir: Path, episodes: Iterable[Episode], log: str = "episodes.jsonl") -> Path:
    """A run folder with a log of these episodes."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    (run_dir / log).write_text("".join(json.dumps(describe(e)) + "\n" for e in episodes), encoding="utf-8")
    return run_dir
