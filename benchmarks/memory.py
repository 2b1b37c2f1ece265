"""What training and generation need beyond weights, gradients and optimizer states, and what a team on one LoRA base needs beyond it.

Each case runs in a process of its own and reads the peak of its resident memory from the kernel (VmHWM, set back before the
case), less what the process held then and less the gradients that the case leaves behind. A pass that is not counted comes
first, so that libraries have their buffers and the optimizer its states. The processes run with one malloc arena and give
freed blocks back at once: what is measured is then what tensors need, not what an allocator keeps. Cases named `..._malloc`
run with glibc's own settings. `tensors` is the same peak counted in tensor storages (`collm.planning.live_bytes`).

    python benchmarks/memory.py [--out benchmarks/results/memory.json] [CASE ...]

The last line of output is a JSON object.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from bench_tools import Shape, machine, random_model, write_result

from collm.algorithms.losses import PolicyGradientLoss, SquaredValueLoss
from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample, ValueInput
from collm.planning.live_bytes import LiveBytes

ROOT = Path(__file__).parent.parent
TINY = Shape(151936, 128, 4, 4, 2, 32, 384)
HUNDRED_MILLION = Shape(32000, 768, 12, 12, 4, 64, 2304)
HISTORY = 2048
TURNS, RESPONSE_SHARE = 4, 16
"""Every history in an update is of so many turns, and one token in so many is a response's."""
TEAM_HISTORY = 256
"""Of the team on one base, whose question is what it holds between passes."""
NEW_TOKENS = 8
"""Sampled at the end of every history in generation."""
LIMIT = 0.35
TEAM_LIMIT = 1.3
QUIET_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
CPU = torch.device("cpu")
START = Progress(0, 10)
Phase = Literal["policy", "kl", "step", "critic", "values", "generation", "team"]


@dataclass(frozen=True, slots=True)
class Case:
    """A phase over `rows` histories under the two settings that govern its memory."""

    phase: Phase
    rows: int = 1
    micro_batch_tokens: int = 4096
    checkpointing: bool = False
    own_malloc: bool = False


CASES = {
    "policy_1": Case("policy"),
    "policy_1_malloc": Case("policy", own_malloc=True),
    "policy_3_budget_2048": Case("policy", 3, 2048),
    "policy_2_budget_4096": Case("policy", 2, 4096),
    "policy_8": Case("policy", 8),
    "policy_8_checkpointing": Case("policy", 8, checkpointing=True),
    "kl_3_budget_2048": Case("kl", 3, 2048),
    "step": Case("step"),
    "critic_1": Case("critic"),
    "critic_3_budget_2048": Case("critic", 3, 2048),
    "critic_8": Case("critic", 8),
    "values_8": Case("values", 8),
    "values_8_budget_2048": Case("values", 8, 2048),
    "generation_1": Case("generation"),
    "generation_8": Case("generation", 8),
    "generation_8_budget_2048": Case("generation", 8, 2048),
    "generation_64_budget_2048": Case("generation", 64, 2048),
    "team": Case("team"),
}


# -- memory of this process --------------------------------------------------------------------------------------------


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {key}: this needs Linux")
    return int(found[1]) * 1024


def _resting() -> int:
    """Resident bytes once everything that is not needed was given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _peak_over(call: Callable[[], object]) -> int:
    """Most resident bytes during the call."""
    Path("/proc/self/clear_refs").write_text("5")
    call()
    return _status("VmHWM")


# -- what is trained and answered --------------------------------------------------------------------------------------


def _ids(row: int, length: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(row)).tolist())


def _samples(rows: int, length: int, response: int, vocabulary: int) -> list[PolicySample]:
    """The turns of each history, as the learner hands them over; the host merges them into one sequence."""
    found: list[PolicySample] = []
    for row in range(rows):
        ids = _ids(row, length, vocabulary)
        for turn in range(1, TURNS + 1):
            stop = length * turn // TURNS
            data = {"advantage": 0.5 - turn % 2}
            unstepped = {"old_logprob": (float("nan"),) * response}
            found.append(PolicySample(ids[: stop - response], ids[stop - response : stop], data, f"{row}.{turn}", unstepped))
    return found


def _inputs(rows: int, length: int, vocabulary: int) -> list[ValueInput]:
    positions = tuple(length * turn // TURNS - 1 for turn in range(1, TURNS + 1))
    data = {"target": (1.0,) * TURNS, "old_value": (0.0,) * TURNS}
    return [ValueInput(_ids(row, length, vocabulary), positions, ((),) * TURNS, data, str(row)) for row in range(rows)]


def _requests(rows: int, length: int, vocabulary: int) -> list[GenerationRequest]:
    return [GenerationRequest("agent", row, None, _ids(row, length - NEW_TOKENS, vocabulary), row, False) for row in range(rows)]


def _spec() -> DecodeSpec:
    return DecodeSpec(SupportRule(), NEW_TOKENS, frozenset())


# -- cases -------------------------------------------------------------------------------------------------------------


def _phase(case: Case) -> tuple[Host, Callable[[int, int], object]]:
    """A host with one member, and the case's work over (rows, tokens of each)."""
    host = Host("tiny", random_model(TINY), CPU, case.micro_batch_tokens, case.checkpointing)
    v = TINY.vocabulary
    if case.phase in ("critic", "values"):
        host.add_critic("critic", 0, OptimizerConfig(), None, 0)
        if case.phase == "values":
            return host, lambda rows, length: host.values("critic", _inputs(rows, length, v))
        return host, lambda rows, length: host.accumulate_values("critic", _inputs(rows, length, v), SquaredValueLoss(None))
    host.add_policy("agent", _spec(), OptimizerConfig(), None, 0, reference=case.phase == "kl")
    if case.phase == "generation":
        return host, lambda rows, length: host.generate(_requests(rows, length, v))
    if case.phase == "step":
        return host, lambda rows, length: host.step("agent", START)
    loss = PolicyGradientLoss(kl_coef=0.01 if case.phase == "kl" else 0.0)
    return host, lambda rows, length: host.accumulate_policy("agent", _samples(rows, length, length // (RESPONSE_SHARE * TURNS), v), loss)


def _accumulate(host: Host, member: str, rows: int, length: int, vocabulary: int, loss: PolicyGradientLoss) -> None:
    if host.members[member].kind == "critic":
        host.accumulate_values(member, _inputs(rows, length, vocabulary), SquaredValueLoss(None))
    else:
        host.accumulate_policy(member, _samples(rows, length, length // (RESPONSE_SHARE * TURNS), vocabulary), loss)


def _held(host: Host) -> list[torch.Tensor]:
    """What is not counted: weights, gradients and optimizer states. A change in place to them makes nothing new."""
    members = host.members.values()
    states = [t for m in members for s in m.optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    gradients = [p.grad for m in members for p in m.parameters if p.grad is not None]
    return [*host.loaded.model.parameters(), *gradients, *states]


def _gradient_bytes(host: Host) -> int:
    return sum(p.grad.nbytes for m in host.members.values() for p in m.parameters if p.grad is not None)


def _measure_phase(case: Case) -> dict[str, Any]:
    host, work = _phase(case)
    (member,) = host.members
    if case.phase != "values":
        _accumulate(host, member, 1, 64, TINY.vocabulary, PolicyGradientLoss())
        host.step(member, START)
        _accumulate(host, member, 1, 64, TINY.vocabulary, PolicyGradientLoss())
    if case.phase != "step":
        work(1, 64)
        host.forget()
    found = {"beyond_gb": _resident(host, lambda: work(case.rows, HISTORY))}
    if case.phase == "step":
        _accumulate(host, member, 1, 64, TINY.vocabulary, PolicyGradientLoss())
    gc.collect()
    with LiveBytes(_held(host)) as meter:
        work(case.rows, HISTORY)
    found["tensors_gb"] = round(meter.peak / 1e9, 3)
    return {**found, "within": max(found.values()) <= LIMIT}


def _resident(host: Host, call: Callable[[], object]) -> float:
    """Peak of resident memory over what it was, in GB; caches that the call leaves behind are dropped."""
    before = _resting()
    peak = _peak_over(call)
    host.forget()
    return round((peak - before) / 1e9, 3)


def _measure_team(case: Case) -> dict[str, Any]:
    """Four LoRA agents whose KL reference is the base with the adapters off, and a LoRA critic, on one base."""
    loaded = random_model(HUNDRED_MILLION)
    base = sum(p.nbytes for p in loaded.model.parameters())
    v = HUNDRED_MILLION.vocabulary
    loaded.model.requires_grad_(False)
    # A pass with a backward, so that what libraries keep for themselves is there before anything is counted.
    embedded = loaded.model.get_input_embeddings()(torch.ones(1, TEAM_HISTORY, dtype=torch.long)).requires_grad_()
    loaded.model(inputs_embeds=embedded).logits.sum().backward()
    del embedded
    alone = _resting()
    host = Host("base", loaded, CPU, case.micro_batch_tokens, case.checkpointing)
    names = [f"agent_{i}" for i in range(4)]
    for i, name in enumerate(names):
        host.add_policy(name, _spec(), OptimizerConfig(), LoraConfig(), i, reference=True)
    host.add_critic("critic", 0, OptimizerConfig(), LoraConfig(), 9)
    kl = PolicyGradientLoss(kl_coef=0.01)
    for name in host.members:
        _accumulate(host, name, 1, 64, v, kl)
        host.step(name, START)
    before = _resting()
    peak = _peak_over(lambda: [_accumulate(host, name, 1, TEAM_HISTORY, v, kl) for name in host.members])
    held = _resting() - alone
    weights = sum(p.nbytes for m in host.members.values() for p in m.parameters)
    states = sum(t.nbytes for m in host.members.values() for s in m.optimizer.state.values() for t in s.values() if torch.is_tensor(t))
    own = weights + _gradient_bytes(host) + states
    return {
        "base_gb": round(base / 1e9, 3),
        "adapters_own_gb": round(own / 1e9, 4),
        "held_beyond_base_gb": round(held / 1e9, 4),
        "ratio": round(held / own, 3),
        "within": held <= TEAM_LIMIT * own,
        "activations_gb": round((peak - before - _gradient_bytes(host)) / 1e9, 3),
    }


def measure(name: str) -> dict[str, Any]:
    """One case, in this process."""
    case = CASES[name]
    return _measure_team(case) if case.phase == "team" else _measure_phase(case)


def in_own_process(name: str) -> Mapping[str, Any]:
    """One case, in a process of its own."""
    case = CASES[name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **({} if case.own_malloc else QUIET_MALLOC)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--here", name], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    row = {**asdict(case), **json.loads(done.stdout.splitlines()[-1])}
    print(f"{name}: {row} ({time.perf_counter() - started:.0f} s)", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all where none is given")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "memory.json")
    parser.add_argument("--here", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.here)))
        return
    about = machine()
    names = arguments.cases or list(CASES)
    found = {name: in_own_process(name) for name in names}
    result = {
        "what": f"GB (1e9 bytes) of {HISTORY}-token histories beyond weights, gradients and optimizer; limit {LIMIT}",
        "models": {"tiny": asdict(TINY), "team": asdict(HUNDRED_MILLION)},
        "cases": found,
        "missed": [name for name, row in found.items() if not row["within"]],
    }
    write_result(result, about, arguments.out)


if __name__ == "__main__":
    main()
