"""What a measured process notes about itself: moments, and how much memory it came to hold. Standard library only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


def resident_mb(field_name: str = "VmRSS") -> float:
    """Memory of this process, MB: `VmRSS` now, `VmHWM` the most since the start or the last `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field_name + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field_name}; this benchmark reads memory as Linux gives it")


def forget_peak() -> None:
    """Let `VmHWM` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Clock:
    """The moments at which rollouts began and ended; one more beginning closes the last update."""

    begun: list[float] = field(default_factory=list)
    played: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Processor seconds of all threads at each beginning: unlike the rates they hardly depend on who else is busy."""
    peak_mb: float = 0.0

    def begin(self) -> None:
        self.begun.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.peak_mb = resident_mb("VmHWM")

    def step(self) -> None:
        """A reward was asked for: the rollout goes at least up to here."""
        if not self.begun:
            return
        if len(self.played) < len(self.begun):
            self.played.append(0.0)
        self.played[-1] = time.perf_counter()

    def report(self, warm_up: int, steps_each: int, tokens_each: int, resting_mb: float) -> dict[str, float]:
        """Rates over all rollouts after the first `warm_up`, each of so many env steps and generated tokens."""
        spans = list(zip(self.begun[warm_up:-1], self.begun[warm_up + 1 :], strict=True))
        whole = sum(end - start for start, end in spans)
        updates = [
            end - played for (_, end), played in zip(spans, self.played[warm_up:], strict=False)
        ]  # an evaluation at the end plays on
        return {
            "env_steps_per_s": len(spans) * steps_each / whole,
            "tokens_per_s": len(spans) * tokens_each / (whole - sum(updates)),
            "update_s": statistics.mean(updates),
            "rollout_s": (whole - sum(updates)) / len(spans),
            "cpu_s_per_env_step": (self.cpu[-1] - self.cpu[warm_up]) / (len(spans) * steps_each),
            "peak_mb": self.peak_mb,
            "resting_mb": resting_mb,
        }


def steps_of_tree(samples: int, turns: int) -> int:
    """Joint actions of a full K-ary tree."""
    return sum(samples**depth for depth in range(1, turns + 1))


def text_of(rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text, columns aligned."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
