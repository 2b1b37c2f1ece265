"""What every task's section has, built-in or your own."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from collm.config.contradiction import Contradiction
from collm.config.section import Section

ROW_SLICE = r"^\d*:\d*$"


class TaskSection(Section):
    """The keys that all tasks share."""

    env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        examples=["my_pkg.my_mod:MyEnv"],
        description="import path pkg.module:Class of an environment used in place of the built-in one",
    )
    env_args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments for the class named by env")
    data: str | None = Field(default=None, description="task rows: a .jsonl, .json or .csv path, or a Hub data set id; null = built in")
    train_rows: str | None = Field(
        default=None,
        pattern=ROW_SLICE,
        examples=["0:8"],
        description="slice start:stop of the rows to train on; null = the task's own split (of given data the paper's)",
    )
    test_rows: str | None = Field(
        default=None,
        pattern=ROW_SLICE,
        examples=["8:10"],
        description="slice start:stop of the rows to evaluate on; null = the task's own split (of given data the paper's)",
    )

    def check_agents(self, n_agents: int) -> None:
        """Raise Contradiction where the section gives something per agent and not to this many agents."""


class DialogueSection(TaskSection):
    """What tasks of several turns add."""

    original_prompt: bool = Field(default=True, description="repeat the first prompt after the feedback (history: last only)")
    previous_response: bool = Field(default=True, description="quote the agent's own previous response (history: last only)")


def one_per_agent(key: str, things: str, given: int | None, n_agents: int) -> None:
    """Raise Contradiction where a list per agent (`given` entries, None = left out) has another length."""
    if given is not None and given != n_agents:
        raise Contradiction(f"task.{key} names {given} {things} for {n_agents} agents; give one per agent", f"task.{key}", "agents")
