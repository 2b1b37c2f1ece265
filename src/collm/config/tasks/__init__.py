"""The task sections: one file per family, chosen by `task.name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from collm.config.tasks.base import TaskSection
from collm.config.tasks.coding import CodingSection, CoopHETask, HumanEvalTask, MbppTask
from collm.config.tasks.custom import CustomTask
from collm.config.tasks.housebuild import HouseBuildTask
from collm.config.tasks.strbuild import StrBuildTask
from collm.config.tasks.writing import ArxivTask, TldrTask, WritingSection

AnyTask = StrBuildTask | HouseBuildTask | TldrTask | ArxivTask | CoopHETask | HumanEvalTask | MbppTask | CustomTask
TaskConfig = Annotated[AnyTask, Field(discriminator="name")]

__all__ = [
    "AnyTask",
    "ArxivTask",
    "CodingSection",
    "CoopHETask",
    "CustomTask",
    "HouseBuildTask",
    "HumanEvalTask",
    "MbppTask",
    "StrBuildTask",
    "TaskConfig",
    "TaskSection",
    "TldrTask",
    "WritingSection",
]
