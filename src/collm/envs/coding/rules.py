"""The numbers of a coding task, resolved from its configuration in this one place.

Source: tasks.md section 2. Both profiles have the same levels; `comlrl` keeps of a response only the function it was asked
for and none of its imports, as the released environment (v1.3.6) does, lets all tests meet one program and gives each 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from collm.config.tasks import CodingSection
from collm.config.tasks.coding import ExpertSection
from collm.errors import ConfigError
from collm.sandbox import Level

SOLVED_MARGIN = 0.2
"""How far below the largest reward a turn still counts as solved: 3.8 of 4.0."""


@dataclass(frozen=True, slots=True)
class ProfileNumbers:
    """What a profile decides where the configuration says null."""

    keep_functions: Literal["all", "named"]
    response_imports: bool
    test_seconds: float
    fresh_program: bool


PROFILES = {
    "paper": ProfileNumbers(keep_functions="all", response_imports=True, test_seconds=8.0, fresh_program=True),
    "comlrl": ProfileNumbers(keep_functions="named", response_imports=False, test_seconds=10.0, fresh_program=False),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A coding task for a given number of agents, nothing left to decide."""

    helpers: tuple[str, ...]
    """The functions of all agents but the last."""
    keep_functions: Literal["all", "named"]
    response_imports: bool
    helper_reward: float
    main_reward: float
    syntax_reward: float
    tests_reward: float
    call_reward: float
    own_work_reward: float
    ignored_penalty: float
    solved_above: float
    test_seconds: float
    fresh_program: bool
    """Every test meets the program as it was loaded; else with what the tests before it left behind."""
    max_timeouts: int
    memory_mb: int
    sandbox: Level
    feedback: Literal["level", "passed", "plain", "expert"]
    sandbox_slice: int
    """Asserts that feedback level looks at; 0 = all."""
    expert: ExpertSection

    @property
    def max_reward(self) -> float:
        """4.0 with a helper; one agent has no helper to define, call or wrap: 2.1."""
        alone = self.main_reward + self.syntax_reward + self.tests_reward
        return alone + self.helper_reward + self.call_reward + self.own_work_reward if self.helpers else alone

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self  # immutable throughout; tree rollouts copy environments often


def helper_names(task: CodingSection, n_agents: int) -> tuple[str, ...]:
    """The functions of all agents but the last: as configured, else aux, aux2, aux3, ... Raises ConfigError."""
    if n_agents < 1:
        raise ConfigError(f"a coding task needs at least one agent, got {n_agents}; list agents in the configuration")
    if task.helpers is None:
        return tuple("aux" if i == 0 else f"aux{i + 1}" for i in range(n_agents - 1))
    if len(task.helpers) != n_agents - 1:
        raise ConfigError(f"task.helpers names {len(task.helpers)} functions for {n_agents} agents; give one for every agent but the last")
    return tuple(task.helpers)


def resolve_rules(task: CodingSection, n_agents: int) -> Rules:
    """The rules of `task` for `n_agents` agents. Raises ConfigError naming the setting that does not fit."""
    numbers = PROFILES[task.profile]
    rules = Rules(
        helpers=helper_names(task, n_agents),
        keep_functions=numbers.keep_functions if task.keep_functions is None else task.keep_functions,
        response_imports=numbers.response_imports if task.response_imports is None else task.response_imports,
        helper_reward=task.helper_reward,
        main_reward=task.main_reward,
        syntax_reward=task.syntax_reward,
        tests_reward=task.tests_reward,
        call_reward=task.call_reward,
        own_work_reward=task.own_work_reward,
        ignored_penalty=task.ignored_penalty,
        solved_above=0.0,
        test_seconds=numbers.test_seconds if task.test_seconds is None else task.test_seconds,
        fresh_program=numbers.fresh_program if task.fresh_program is None else task.fresh_program,
        max_timeouts=task.max_timeouts,
        memory_mb=task.memory_mb,
        sandbox=Level(task.sandbox),
        feedback=task.feedback,
        sandbox_slice=task.sandbox_slice,
        expert=task.expert,
    )
    if rules.max_reward <= 0:
        raise ConfigError(f"the rewards of the coding task add up to {rules.max_reward}; they must be above 0, for they scale m_t")
    solved_above = rules.max_reward - SOLVED_MARGIN if task.solved_above is None else task.solved_above
    return replace(rules, solved_above=solved_above)
