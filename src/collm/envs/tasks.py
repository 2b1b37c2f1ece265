"""The built-in tasks by the section that configures them."""

from __future__ import annotations

from collm.config.tasks import ArxivTask, CoopHETask, HouseBuildTask, HumanEvalTask, MbppTask, StrBuildTask, TaskSection, TldrTask
from collm.envs.built_in import BuiltInTask
from collm.envs.coding.task import COOPHE, HUMANEVAL, MBPP
from collm.envs.housebuild.task import HOUSEBUILD
from collm.envs.strbuild.task import STRBUILD
from collm.envs.writing.task import ARXIV, TLDR

BUILT_IN: dict[type[TaskSection], BuiltInTask] = {
    StrBuildTask: STRBUILD,
    HouseBuildTask: HOUSEBUILD,
    TldrTask: TLDR,
    ArxivTask: ARXIV,
    CoopHETask: COOPHE,
    HumanEvalTask: HUMANEVAL,
    MbppTask: MBPP,
}


def built_in(task: TaskSection) -> BuiltInTask | None:
    """What the project knows of a task; None where the environment is one of your own."""
    return None if task.env is not None else BUILT_IN.get(type(task))
