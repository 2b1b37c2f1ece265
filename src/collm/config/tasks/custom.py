"""Settings of an environment of your own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collm.config.contradiction import Contradiction
from collm.config.tasks.base import TaskSection


class CustomTask(TaskSection):
    """Your own environment, named by task.env."""

    name: Literal["custom"] = Field(default="custom", description="the task")

    @model_validator(mode="after")
    def _needs_env(self) -> CustomTask:
        if self.env is None:
            raise Contradiction("task 'custom' needs task.env, the import path pkg.module:Class of your environment", "env")
        return self
