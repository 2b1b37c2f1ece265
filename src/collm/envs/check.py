"""Does an environment keep the contract of `collm.envs.base`? Small pure checks, used by the rollout after every reset and step.

Each raises EnvContractError that names the agent and what came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from collm.errors import EnvContractError
from collm.types import GlobalInfo


def check_observations(observations: Mapping[str, Any], agents: Sequence[str]) -> dict[str, str]:
    """One text per agent, in the order of `agents`; entries for others are left out."""
    _expect_mapping("observations", observations)
    checked: dict[str, str] = {}
    for agent in agents:
        if agent not in observations:
            raise EnvContractError(f"observations: none for {agent} (got: {_names(observations)}); return one text per agent")
        text = observations[agent]
        if not isinstance(text, str):
            raise EnvContractError(f"observations: that of {agent} is {_shown(text)}; an observation is text (str)")
        checked[agent] = text
    return checked


def shared_reward(rewards: Mapping[str, Any]) -> float:
    """The joint reward: a finite number, equal for every agent."""
    _expect_mapping("rewards", rewards)
    for agent, reward in rewards.items():
        if not isinstance(reward, Real) or not math.isfinite(reward):
            raise EnvContractError(f"rewards: that of {agent} is {_shown(reward)}; a reward is a finite number")
    if len({float(reward) for reward in rewards.values()}) != 1:
        each = ", ".join(f"{agent}={float(reward):g}" for agent, reward in rewards.items()) or "none"
        raise EnvContractError(f"rewards must be one shared number, repeated for every agent; got {each}")
    return float(next(iter(rewards.values())))


def joint_flag(name: str, flags: Mapping[str, Any]) -> bool:
    """A flag (`terminations` or `truncations`) that is true for all agents or for none."""
    _expect_mapping(name, flags)
    for agent, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise EnvContractError(f"{name}: that of {agent} is {_shown(flag)}; give True or False")
    if len({bool(flag) for flag in flags.values()}) != 1:
        each = ", ".join(f"{agent}={bool(flag)}" for agent, flag in flags.items()) or "none"
        raise EnvContractError(f"{name} must be true for all agents or for none; got {each}")
    return bool(next(iter(flags.values())))


def step_metrics(infos: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `infos[agent]["metrics"]`, the same for every agent that has any; {} where there are none."""
    _expect_mapping("infos", infos)
    first: tuple[str, dict[str, float]] | None = None
    for agent, info in infos.items():
        _expect_mapping(f"infos of {agent}", info)
        if "metrics" not in info:
            continue
        metrics = _numbers(agent, info["metrics"])
        if first is not None and metrics != first[1]:
            raise EnvContractError(f"infos: metrics must be the same for every agent; {first[0]} has {first[1]}, {agent} has {metrics}")
        first = first or (agent, metrics)
    return first[1] if first else {}


def step_details(infos: Mapping[str, Any]) -> dict[str, Any]:
    """`infos[agent]["details"]` of the first agent that has any; {} where there are none."""
    for agent, info in infos.items():
        if "details" in info:
            _expect_mapping(f"infos: details of {agent}", info["details"])
            return dict(info["details"])
    return {}


def global_info(state: Any) -> GlobalInfo:
    """m_t from what `state()` returned: {"text": str, "features": numbers of shape (F,)}."""
    mend = 'state() returns {"text": str, "features": 1-d float array}'
    if not isinstance(state, Mapping) or "text" not in state or "features" not in state:
        raise EnvContractError(f"state: got {_shown(state)}; {mend}")
    text = state["text"]
    if not isinstance(text, str):
        raise EnvContractError(f"state: text is {_shown(text)}; {mend}")
    try:
        features = np.array(state["features"], dtype=np.float32)
    except (TypeError, ValueError) as err:
        raise EnvContractError(f"state: features are {_shown(state['features'])} ({err}); {mend}") from err
    if features.ndim != 1 or not np.isfinite(features).all():
        raise EnvContractError(f"state: features are {_shown(state['features'])} of shape {features.shape}; give finite numbers in one row")
    return GlobalInfo(text, features)


def _numbers(agent: str, metrics: Any) -> dict[str, float]:
    _expect_mapping(f"infos: metrics of {agent}", metrics)
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, Real) or not math.isfinite(value):
            raise EnvContractError(f"infos: metric {name!r} of {agent} is {_shown(value)}; a metric is a name and a finite number")
    return {name: float(value) for name, value in metrics.items()}


def _expect_mapping(what: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise EnvContractError(f"{what}: expected a dict, got {_shown(value)}")


def _names(mapping: Mapping[str, Any]) -> str:
    return ", ".join(map(str, mapping)) or "none"


def _shown(value: Any) -> str:
    """A value and its type, short enough for one line."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
