"""Methods by name."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import TypeIs

from collm.algorithms.collm_cc import CoLLMCC
from collm.algorithms.collm_dc import CoLLMDC
from collm.algorithms.ma_reinforce import MAReinforce
from collm.algorithms.magrpo import MAGRPO
from collm.algorithms.maremax import MAReMax
from collm.algorithms.marloo import MARLOO
from collm.algorithms.method import ActorCriticMethod, Method
from collm.config.combinations import ACTOR_CRITIC
from collm.config.schema import Config

METHODS: dict[str, Callable[[Config], Method]] = {
    "collm-cc": lambda _: CoLLMCC(),
    "collm-dc": lambda _: CoLLMDC(),
    "ma-reinforce": lambda _: MAReinforce(),
    "magrpo": lambda config: MAGRPO(config.monte_carlo.divide_by_std),
    "marloo": lambda _: MARLOO(),
    "maremax": lambda config: MAReMax(config.monte_carlo.baseline),
}


def make_method(config: Config) -> Method:
    """The method a configuration names."""
    return METHODS[config.method](config)


def has_critics(method: Method) -> TypeIs[ActorCriticMethod]:
    """Whether a method is of the actor-critic family."""
    return method.name in ACTOR_CRITIC
