"""One question, one answer: does it fit on these devices, and what if not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from rich.console import RenderableType

from collm.config.schema import Config
from collm.errors import ConfigError
from collm.planning.advice import advise
from collm.planning.devices import device_bytes
from collm.planning.predict import predict
from collm.planning.records import Plan
from collm.planning.table import plan_data, plan_view
from collm.planning.workload import Expected, turn_limit


def answer(
    config: Config, sizes: Mapping[str, int], turns: int | None, history_tokens: int | None
) -> tuple[RenderableType, dict[str, object], bool | None]:
    """A plan as a view and as data, and whether it fits.

    `sizes` are bytes by device: cpu, cuda:N, or cuda for every GPU that is not named; devices left out are those of this
    machine. `turns` is H of an environment of your own. Raises ModelError and ConfigError like `predict`, and ConfigError
    where `turns` contradicts the task.
    """
    known = turn_limit(config, Expected())
    if turns is not None and known is not None and turns != known:
        raise ConfigError(f"option --turns: the task itself says that it has {known}; set task.turns={turns} if it has such a setting")
    # Who tells a GPU's size plans for one.
    auto = "cuda" if torch.cuda.is_available() or any(name.startswith("cuda") for name in sizes) else "cpu"
    expected = Expected(history_tokens, turns)

    def capacity(device: str) -> int | None:
        kind = torch.device(device).type
        return sizes.get(device, sizes.get(kind)) if device in sizes or kind in sizes else device_bytes(device)

    def planner(changed: Config) -> Plan:
        return predict(changed, capacity, auto, expected)

    with warnings.catch_warnings():
        # What transformers deprecates is said by the run itself, once.
        warnings.simplefilter("ignore", FutureWarning)
        plan = planner(config)
        advice = advise(config, plan, planner) if plan.fits is False else None
    return plan_view(plan, advice), plan_data(plan, advice), plan.fits
