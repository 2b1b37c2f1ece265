"""Settings of the coding tasks, CoopHE, HumanEval and MBPP (tasks.md section 2)."""

from __future__ import annotations

import keyword
from typing import Literal

from pydantic import Field, model_validator

from collm.config.contradiction import Contradiction
from collm.config.section import Section
from collm.config.tasks.base import DialogueSection


class ExpertSection(Section):
    """The model that comments on the agents' code (feedback: expert)."""

    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        examples=["http://127.0.0.1:8000/v1"],
        description="an OpenAI-compatible endpoint; /chat/completions is added",
    )
    model: str | None = Field(default=None, description="the model's name there")
    api_key_file: str | None = Field(default=None, description="a file whose content is sent as the bearer token; null = none is sent")
    temperature: float = Field(default=0.0, ge=0, description="sampling temperature of the comments")
    max_tokens: int = Field(default=512, ge=1, description="longest comment in tokens")
    timeout: float = Field(default=60.0, gt=0, description="seconds until a request has failed")
    retries: int = Field(default=3, ge=0, description="further tries, 1, 2, 4, ... seconds apart, where it is busy, broken or unreachable")


class CodingSection(DialogueSection):
    """What the coding tasks have."""

    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    turns: int = Field(default=2, ge=1, description="H, the turn limit")
    helpers: list[str] | None = Field(
        default=None,
        description="functions the agents before the last write, one each; null = aux, aux2, aux3, ... (the last writes the entry point)",
    )
    feedback: Literal["level", "passed", "plain", "expert"] = Field(
        default="level", description="told after a turn: every level, the tests passed, nothing, or an expert model's comments"
    )
    sandbox_slice: int = Field(default=1, ge=0, description="asserts that feedback level looks at, the first ones; 0 = all")
    expert: ExpertSection = Field(default_factory=ExpertSection, description="the endpoint of feedback: expert")
    helper_reward: float = Field(default=0.4, description="level 1a, the helper is defined with a return (shared by several helpers)")
    main_reward: float = Field(default=0.6, description="level 1b, the entry point is defined with a return")
    syntax_reward: float = Field(default=0.5, description="level 2, the joined program parses")
    tests_reward: float = Field(default=1.0, description="level 3a, times passed / total")
    call_reward: float = Field(default=0.5, description="level 3b, the entry point calls the helper (shared by several helpers)")
    own_work_reward: float = Field(default=1.0, description="level 3c, it calls a helper and is not a thin wrapper of it")
    ignored_penalty: float = Field(
        default=0.5, description="level 3d, taken off where the helper's result is never used (shared by several helpers)"
    )
    solved_above: float | None = Field(
        default=None,
        description="a reward above this ends the episode as solved; null = the largest less 0.2 (3.8 for two agents)",
    )
    keep_functions: Literal["all", "named"] | None = Field(
        default=None, description="top-level functions kept of a response: all, or only those it was asked for; null = the profile's"
    )
    response_imports: bool | None = Field(
        default=None, description="keep the responses' imports beside the problem prompt's; null = the profile's"
    )
    fresh_program: bool | None = Field(
        default=None, description="each test meets the program as it was loaded, not as the test before left it; null = the profile's"
    )
    test_seconds: float | None = Field(default=None, gt=0, description="time limit of a test; null = the profile's")
    max_timeouts: int = Field(default=3, ge=1, description="after this many time-outs the remaining tests count as failed")
    memory_mb: int = Field(default=512, ge=64, description="memory limit of a program, in MiB")

    sandbox: Literal["full", "filtered", "rlimits"] = Field(
        default="full", description="isolation the programs need; a machine that cannot give it refuses (docs/sandbox.md)"
    )

    @model_validator(mode="after")
    def _expert_has_an_endpoint(self) -> CodingSection:
        given = {"expert.base_url": self.expert.base_url, "expert.model": self.expert.model}
        keys = [key for key, value in given.items() if value is None]
        if self.feedback == "expert" and keys:
            raise Contradiction(f"feedback: expert asks another model and {' and '.join(keys)} is not given", "feedback", *keys)
        return self

    @model_validator(mode="after")
    def _helpers_are_names(self) -> CodingSection:
        names = self.helpers or []
        for i, name in enumerate(names):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise Contradiction(f"helpers.{i}: {name!r} is not a function's name; give one such as aux", "helpers")
            if name in names[:i]:
                raise Contradiction(f"helpers names {name} twice; every helper is one agent's", "helpers")
        return self

    def check_agents(self, n_agents: int) -> None:
        if self.helpers is not None and len(self.helpers) != n_agents - 1:
            raise Contradiction(
                f"task.helpers names {len(self.helpers)} functions for {n_agents} agents; give one for every agent but the last",
                "task.helpers",
                "agents",
            )


class CoopHETask(CodingSection):
    """CoopHE: one agent writes a helper aux(...), the other the entry point that may call it (H = 2)."""

    name: Literal["coophe"] = Field(default="coophe", description="the task")


class HumanEvalTask(CodingSection):
    """HumanEval, solved by a helper and an entry point as CoopHE is (H = 2)."""

    name: Literal["humaneval"] = Field(default="humaneval", description="the task")


class MbppTask(CodingSection):
    """MBPP, solved by a helper and an entry point as CoopHE is (H = 2)."""

    name: Literal["mbpp"] = Field(default="mbpp", description="the task")
