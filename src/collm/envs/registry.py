"""From a task's configuration to an environment: a built-in one by `task.name`, or your own by `task.env`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from collm.config.schema import CustomTask, StrBuildTask
from collm.envs.base import TextEnv
from collm.envs.check import joint_flag, shared_reward, step_metrics
from collm.envs.strbuild.env import StrBuildEnv
from collm.errors import ConfigError, DataError, EnvContractError

REQUIRED = ("possible_agents", "reset", "step", "state")
"""What the rollout uses of an environment (`agents` besides, from the first reset on)."""


def make_env(task: StrBuildTask | CustomTask, n_agents: int, history: Literal["full", "last"]) -> TextEnv:
    """The environment of a task.

    A class named by `task.env` is called with `task.env_args` alone; it is imported with the working directory on the
    module path, so that a file beside the user is found.

    Raises ConfigError for settings, import paths and arguments that do not fit and EnvContractError for a class that is
    no environment or has another number of agents.
    """
    if task.env is not None:
        return _own_env(task.env, task.env_args, n_agents)
    if isinstance(task, StrBuildTask):
        return StrBuildEnv(task, n_agents, history)
    raise ConfigError("task 'custom' needs task.env, the import path pkg.module:Class of your environment")


def score_row(task: StrBuildTask | CustomTask, row: Mapping[str, Any]) -> dict[str, Any]:
    """Score one turn from an empty world: {"task": {"string": "ICML"}, "responses": [...]}, one response per agent.

    Returns {"reward": float, "metrics": {name: float}, "terminated": bool}. Raises DataError naming the field that is wrong.
    """
    responses = _responses(row)
    env = make_env(task, len(responses), "full")
    env.reset(seed=0, options={"task": row["task"]})
    _, rewards, terminations, _, infos = env.step(dict(zip(env.agents, responses, strict=True)))
    return {
        "reward": shared_reward(rewards),
        "metrics": step_metrics(infos),
        "terminated": joint_flag("terminations", terminations),
    }


def _responses(row: object) -> list[str]:
    example = '{"task": {"string": "ICML"}, "responses": ["...", "..."]}'
    if not isinstance(row, Mapping):
        raise DataError(f"expected an object like {example}, got {type(row).__name__}")
    for field in ("task", "responses"):
        if field not in row:
            raise DataError(f"field {field!r} is missing (fields: {', '.join(map(str, row)) or 'none'}); a row is like {example}")
    if not isinstance(row["task"], Mapping):
        raise DataError(f'task: expected an object like {{"string": "ICML"}}, got {type(row["task"]).__name__}')
    responses = row["responses"]
    if not isinstance(responses, list) or not responses:
        raise DataError(f"responses: expected a list of texts, one per agent, got {str(responses)[:60]}")
    for i, response in enumerate(responses):
        if not isinstance(response, str):
            raise DataError(f"responses.{i}: expected text, got {type(response).__name__}")
    return responses


def _own_env(import_path: str, arguments: Mapping[str, Any], n_agents: int) -> TextEnv:
    with _working_directory_importable():
        make = _load(import_path)
        try:
            inspect.signature(make).bind(**arguments)
        except TypeError as err:
            raise ConfigError(f"task.env_args do not fit {import_path}{inspect.signature(make)}: {err}") from err
        env = make(**arguments)
    missing = [name for name in REQUIRED if not hasattr(env, name)]  # wrappers delegate, so dir() would not do
    if missing:
        raise EnvContractError(
            f"task.env: {import_path} made a {type(env).__name__} without {', '.join(missing)}; "
            "an environment is a PettingZoo ParallelEnv with text in and out (see collm.envs.base)"
        )
    if len(env.possible_agents) != n_agents:
        raise EnvContractError(
            f"task.env: {import_path} has {len(env.possible_agents)} agents ({', '.join(map(str, env.possible_agents))}) "
            f"and the configuration lists {n_agents} under agents; make them the same number"
        )
    return env


def _load(import_path: str) -> Callable[..., Any]:
    module_name, _, attribute = import_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as err:
        raise ConfigError(f"task.env: cannot import {module_name!r} ({err}); searched {Path.cwd()} and the installed packages") from err
    if attribute not in vars(module):
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")])
        hint = f"did you mean {' or '.join(near)}?" if near else "name a class of that module"
        raise ConfigError(f"task.env: module {module_name!r} ({module.__file__}) has no {attribute!r}; {hint}")
    found = vars(module)[attribute]
    if not callable(found):
        raise ConfigError(f"task.env: {import_path} is {type(found).__name__}, not a class")
    return found


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Put the working directory first on the module path for a while, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
