"""Joint actions to be stepped, without a model that takes them."""

from __future__ import annotations

from collm.rollout.branch import Branch, Joint
from collm.types import Episode, GlobalInfo, StopReason, TaskRow, Turn, Upcoming


def joint(env, texts, episode: str = "e0", turn: int = 0) -> Joint:
    """The agents answer `texts` in an environment that has been reset."""
    root = Branch(Episode(episode, None, 0, 0, []), -1, turn, env, {}, Upcoming({}, {}, GlobalInfo("", None)), False)  # type: ignore[arg-type]
    turns = {name: Turn("", (), (), text, StopReason.EOS, 0.0, 1.0, 0) for name, text in zip(env.possible_agents, texts, strict=True)}
    return Joint(root, env, {}, turns, {}, False)


def opened(env, row: TaskRow | None = None, seed: int = 0):
    env.reset(seed=seed, options={"task": row})
    return env
