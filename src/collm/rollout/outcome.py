"""One step of one environment, checked. Worker processes import this module, so it needs no model and no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from collm.envs.base import TextEnv
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_details, step_metrics
from collm.errors import CollmError
from collm.types import GlobalInfo


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an environment answered to a joint action, checked."""

    reward: float
    terminated: bool
    truncated: bool
    metrics: dict[str, float]
    details: dict[str, Any]
    following: tuple[dict[str, str], GlobalInfo] | None
    """(o_{t+1}, m_{t+1}) where the rollout goes on, or is to be bootstrapped from."""
    env: TextEnv
    """The environment after the step: another object than before where a worker process has stepped it."""


def step_env(env: TextEnv, actions: dict[str, str], keep_cut: bool) -> Outcome:
    """Step an environment. Touches nothing else, so that many can be stepped at the same time. Raises EnvContractError."""
    observations, rewards, terminations, truncations, infos = env.step(actions)
    terminated, truncated = joint_flag("terminations", terminations), joint_flag("truncations", truncations)
    goes_on = not (terminated or truncated) or (truncated and not terminated and keep_cut)
    following = (check_observations(observations, list(actions)), global_info(env.state())) if goes_on else None
    return Outcome(shared_reward(rewards), terminated, truncated, step_metrics(infos), step_details(infos), following, env)


@contextmanager
def placed(where: str, call: str) -> Iterator[None]:
    """Errors from the environment say where in the run they happened."""
    try:
        yield
    except CollmError as error:
        error.add_place(where)
        raise
    except Exception as error:
        # The user's own error, with its own traceback.
        error.add_note(f"raised by the environment's {call}() in {where}")
        raise
