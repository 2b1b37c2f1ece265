"""From a task's configuration to an environment: a built-in one by `task.name`, or your own by `task.env`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collm.config.tasks import TaskSection
from collm.envs.base import TextEnv
from collm.envs.tasks import built_in
from collm.envs.text_env import History
from collm.errors import ConfigError, EnvContractError

REQUIRED = ("possible_agents", "reset", "step", "state")
"""What the rollout uses of an environment (`agents` besides, from the first reset on)."""


def make_env(task: TaskSection, n_agents: int, history: History) -> TextEnv:
    """The environment of a task.

    A class named by `task.env` is called with `task.env_args` alone; it is imported with the working directory on the
    module path, so that a file beside the user is found.

    Raises ConfigError for settings, import paths and arguments that do not fit and EnvContractError for a class that is
    no environment or has another number of agents.
    """
    if task.env is not None:
        return _own_env(task.env, task.env_args, n_agents)
    known = built_in(task)
    if known is None:
        raise ConfigError("task 'custom' needs task.env, the import path pkg.module:Class of your environment")
    return known.make(task, n_agents, history)


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
