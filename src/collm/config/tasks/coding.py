"""Settings of the coding tasks, CoopHE, HumanEval and MBPP (tasks.md section 2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collm.config.tasks.base import DialogueSection


class CodingSection(DialogueSection):
    """What the coding tasks have."""

    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    turns: int = Field(default=2, ge=1, description="H, the turn limit")


class CoopHETask(CodingSection):
    """CoopHE: one agent writes a helper aux(...), the other the entry point that may call it (H = 2)."""

    name: Literal["coophe"] = Field(default="coophe", description="the task")


class HumanEvalTask(CodingSection):
    """HumanEval, solved by a helper and an entry point as CoopHE is (H = 2)."""

    name: Literal["humaneval"] = Field(default="humaneval", description="the task")


class MbppTask(CodingSection):
    """MBPP, solved by a helper and an entry point as CoopHE is (H = 2)."""

    name: Literal["mbpp"] = Field(default="mbpp", description="the task")
