"""Settings of HouseBuild (tasks.md section 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collm.config.tasks.base import DialogueSection


class HouseBuildTask(DialogueSection):
    """HouseBuild: agents fill boxes with blocks to build a house, while spiders attack (H = 4)."""

    name: Literal["housebuild"] = Field(default="housebuild", description="the task")
    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    turns: int = Field(default=4, ge=1, description="H, the turn limit")
