"""CoopHE, HumanEval and MBPP as one PettingZoo environment (contract: `collm.envs.base`)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.config.tasks import CoopHETask, HumanEvalTask, MbppTask
from collm.envs.coding.expert import ask_expert
from collm.envs.coding.feedback import failing_tests, findings, first_prompt
from collm.envs.coding.problem import Problem, read_problem
from collm.envs.coding.program import join_responses
from collm.envs.coding.rows import built_in_rows
from collm.envs.coding.rules import Rules, resolve_rules
from collm.envs.coding.scoring import Score, can_be_tested, score_program
from collm.envs.coding.testing import run_tests
from collm.envs.text_env import Frame, History, Judgement, TextTaskEnv
from collm.errors import DataError, EnvContractError
from collm.sandbox import TestResult
from collm.types import TaskRow

CodingTask = CoopHETask | HumanEvalTask | MbppTask
TITLES = {"coophe": "CoopHE", "humaneval": "HumanEval", "mbpp": "MBPP"}


class CodingEnv(TextTaskEnv):
    """Agents write one Python program, for up to `task.turns` turns: all but the last a helper each, the last the entry point.

    The program runs in the sandbox only. Without a row in `reset(options={"task": row})` one of the built-in problems is drawn
    by the seed.
    """

    concurrent_steps = True
    """A step waits for the sandbox, or for the expert; Python itself is busy for less than a millisecond of it."""

    def __init__(self, task: CodingTask, n_agents: int, history: History = "full") -> None:
        self._rules: Rules = resolve_rules(task, n_agents)
        max_reward = self._rules.max_reward
        frame = Frame(task.name, TITLES[task.name], task.turns, max_reward, history, task.original_prompt, task.previous_response)
        super().__init__(frame, n_agents)
        self._problem: Problem | None = None
        self._score: Score | None = None

    def _begin(self, row: TaskRow | None) -> None:
        if row is None:
            rows = built_in_rows()
            row = rows[int(self._rng.integers(len(rows)))]
        problem = read_problem(row)
        if problem.entry_point in self._rules.helpers:
            raise DataError(f"task, field 'entry_point': {problem.entry_point!r} is a helper's name too; give task.helpers other names")
        self._problem, self._score = problem, None

    def _first_prompt(self, agent: int) -> str:
        return first_prompt(self._playing, self._rules.helpers, agent)

    def _judge(self, responses: Sequence[str]) -> Judgement:
        """Join the responses, run the tests where there is a program to run, and score."""
        problem, rules = self._playing, self._rules
        names = (*rules.helpers, problem.entry_point)
        program = join_responses(responses, names, problem.imports, problem.helpers, rules.keep_functions, rules.response_imports)
        results = self._run(program.source) if can_be_tested(program) else ()
        self._score = score = score_program(program, results, len(problem.shown), rules)
        solved = score.reward > rules.solved_above + 1e-9  # 3.8 is not above 3.8, however it was added up
        return Judgement(score.reward, solved, score.metrics(), score.details(problem.shown))

    def _run(self, source: str) -> tuple[TestResult, ...]:
        return run_tests(source, self._playing, self._rules)

    def _feedback(self, agent: int) -> str:
        problem, rules, score = self._playing, self._rules, self._score
        if score is None:
            raise EnvContractError(f"{self._frame.title}: feedback was asked for before a turn was played")
        turn = f"Turn {self._turn + 1} of {self._frame.turns}."
        revise = f"Revise {score.program.parts[agent].name}: answer with all of its code again."
        match rules.feedback:
            case "plain":
                return f"{turn} {revise}"
            case "passed":
                return f"{turn} {score.passed} of {score.tests} tests passed. {revise}"
            case "level":
                told = findings(score, failing_tests(score, problem, rules.sandbox_slice), agent)
                return "\n".join([f"{turn} Score {score.reward:z.2f} of {rules.max_reward:.1f}.", *told, revise])
            case "expert":
                return "\n".join([turn, "A reviewer says:", ask_expert(rules.expert, problem, score, agent), revise])

    @property
    def _playing(self) -> Problem:
        if self._problem is None:
            raise EnvContractError(f"{self._frame.title}: no episode is running; call reset first")
        return self._problem
