"""The results file, written anew after every measurement, and sections that end in numbers or in a named reason for none."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_bench.arithmetic import LEAST_BYTES
from gpu_bench.shapes import Shape, Tuning


class Skipped(Exception):
    """A measurement that is left out; the message says why."""


class CaseFailed(Exception):
    """Some of a section's measurements ended in errors, which are written down."""


@dataclass(slots=True)
class Clock:
    """Seconds that a run, or a section of it, may still take."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.began)

    def part(self, seconds: float) -> Clock:
        """A clock for a section: what it may have, or what is left where that is less."""
        return Clock(min(seconds, self.left()))

    def needs(self, seconds: float, what: str) -> None:
        """Raises Skipped where less time is left than `what` takes."""
        if self.left() < seconds:
            raise Skipped(f"time: {what} takes about {seconds:.0f} s and {max(0.0, self.left()):.0f} s are left")


class Results:
    """A JSON file that at every moment holds what has been measured so far."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self.content: dict[str, Any] = {**about, "sections": {}}
        self._write()

    def begin(self, section: str) -> None:
        """A section has started: a file that still says so was left by a run that was killed."""
        self.content["sections"][section] = {"state": "running"}
        self._write()

    def add(self, section: str, **found: Any) -> None:
        """Merge what was found into a section; lists are continued, all else is replaced."""
        merge(self.content["sections"].setdefault(section, {}), found)
        self._write()

    @property
    def failed(self) -> list[str]:
        """Sections that ended in an error."""
        return [name for name, section in self.content["sections"].items() if section["state"] == "failed"]

    def put(self, **found: Any) -> None:
        """Merge something beside the sections."""
        merge(self.content, found)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, self._path)


def merge(into: dict[str, Any], found: dict[str, Any]) -> None:
    """Lists are continued, all else is replaced."""
    for key, value in found.items():
        if isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = [*into[key], *value]
        else:
            into[key] = value


def run_section(results: Results, name: str, clock: Clock, work: Callable[[Clock], None]) -> None:
    """Run one section. Memory or time that does not suffice is a result with a reason; an error is written down with its traceback."""
    began = time.perf_counter()
    results.begin(name)
    ended = attempt(lambda: work(clock))
    results.add(name, **(ended or {"state": "done"}), seconds=round(time.perf_counter() - began, 1))
    print(f"{name}: {ended.get('reason', 'done')} ({time.perf_counter() - began:.1f} s)", flush=True)


def run_cases(
    results: Results, section: str, clock: Clock, release: Callable[[], None], cases: list[tuple[dict[str, Any], Callable[[Clock], None]]]
) -> None:
    """Run a section's cases, (label, work), each with its share of the time that is left, `release` after each.

    What is left out is noted under its label. Raises CaseFailed at the end where a case ended in an error.
    """
    failed = 0
    for number, (label, work) in enumerate(cases):
        own = clock.part(clock.left() / (len(cases) - number))
        ended = attempt(lambda work=work, own=own: work(own))
        release()
        if ended:
            results.add(section, left_out=[label | ended])
            failed += ended["state"] == "failed"
    if failed:
        raise CaseFailed(f"{failed} of {len(cases)} cases failed: see left_out")


def attempt(work: Callable[[], None]) -> dict[str, Any]:
    """Do it; empty, or why there is no result: {"state": "skipped" or "failed", "reason": ...}, with the traceback of an error."""
    try:
        work()
    except Skipped as reason:
        return {"state": "skipped", "reason": str(reason)}
    except torch.OutOfMemoryError as error:
        return {"state": "skipped", "reason": f"memory: {str(error).splitlines()[0]}"}
    except Exception as error:  # noqa: BLE001 - nobody watches: all else is still to be had, and main exits with 1
        return {"state": "failed", "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc().splitlines()}
    return {}


def needs_memory(shapes: list[Shape], tuning: Tuning, free: int | None, what: str) -> None:
    """Raises Skipped where the weights and what the optimizer keeps of them are sure not to fit into `free` bytes (None = unknown)."""
    need = LEAST_BYTES[tuning] * sum(s.parameters for s in shapes)
    if free is not None and need > free:
        raise Skipped(f"memory: {what} needs at least {need / 1e9:.0f} GB and {free / 1e9:.0f} GB are free")


def refuse_overwrite(existing: dict[str, Any] | None, on_gpu: bool) -> None:
    """Raises SystemExit where a proof on a CPU would replace numbers of a GPU."""
    if existing is not None and existing.get("gpu_available") and not on_gpu:
        raise SystemExit("the results file holds numbers of a GPU; give --out FILE for a proof on a CPU")
