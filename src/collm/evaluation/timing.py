"""The response time of a joint turn, measured one call at a time.

Agents act on machines of their own, so that those who answer at the same time take as long as the slowest of them, and
those who wait for one another the sum. Calls are made again, one by one and alone, so that neither a batch nor another
agent slows them: same contexts, same seeds, and so the same answers up to rounding. The evaluation's samples are not
touched, for no draw depends on another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from collm.evaluation.talks import JointTurn
from collm.models.generation import GenerationRequest
from collm.models.team import Policy


@dataclass(frozen=True, slots=True)
class ResponseTime:
    """Mean seconds of a joint turn, the turns measured, and what they ran on."""

    seconds: float
    turns: int
    device: str


def response_time(turns: Sequence[JointTurn], policies: Mapping[str, Policy], count: int) -> ResponseTime:
    """Measure `count` joint turns (1 or more), spread evenly over `turns`. The whole context is read anew in every call."""
    chosen = [turns[i] for i in sorted({round(x) for x in np.linspace(0, len(turns) - 1, min(count, len(turns)))})]
    for phase in chosen[0]:
        for agent, said in phase.items():
            # A first call may set things up that later ones find.
            _seconds(policies[agent], said.request)
    seconds = [sum(max(_seconds(policies[agent], said.request) for agent, said in phase.items()) for phase in turn) for turn in chosen]
    devices = dict.fromkeys(_device(policy.host.device) for policy in policies.values())
    return ResponseTime(float(np.mean(seconds)), len(chosen), ", ".join(devices))


def _seconds(policy: Policy, request: GenerationRequest) -> float:
    alone = replace(request, key=("timed", request.key), before=None)
    begun = time.perf_counter()
    policy.host.generate([alone])
    taken = time.perf_counter() - begun
    policy.host.forget([alone.key])
    return taken


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
