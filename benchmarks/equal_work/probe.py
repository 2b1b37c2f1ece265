"""What a measured process notes about itself: moments, counts, and how much memory it came to hold. Standard library only."""

from __future__ import annotations

import time
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
class Moment:
    """When a rollout began, and the counts up to then."""

    at: float
    cpu: float
    """Processor seconds of all threads: unlike the rates they hardly depend on who else is busy."""
    steps: int
    read: int
    written: int
    optimizer_steps: int
    played: float = 0.0
    """When its last reward was asked for: what follows is the update."""


@dataclass
class Clock:
    """The moments at which rollouts began; one more beginning closes the last update."""

    moments: list[Moment] = field(default_factory=list)
    peak_mb: float = 0.0
    steps: int = 0
    read: int = 0
    """Tokens of the contexts that were answered, each context once per response."""
    written: int = 0
    optimizer_steps: int = 0

    def restart(self) -> None:
        """Forget what was, and begin."""
        self.moments.clear()
        forget_peak()
        self.begin()

    def begin(self) -> None:
        self.moments.append(Moment(time.perf_counter(), time.process_time(), self.steps, self.read, self.written, self.optimizer_steps))
        self.peak_mb = resident_mb("VmHWM")

    def step(self) -> None:
        """A reward was asked for: the rollout goes at least up to here."""
        self.steps += 1
        if self.moments:
            self.moments[-1].played = time.perf_counter()

    def answered(self, contexts: int, responses: int) -> None:
        """Tokens read and written by an inference call."""
        self.read += contexts
        self.written += responses

    def optimizer_stepped(self, *_: object) -> None:
        """For torch's global hook on optimizers."""
        self.optimizer_steps += 1

    def report(self, warm_up: int = 0) -> dict[str, float]:
        """Rates and costs over all rollouts after the first `warm_up`."""
        first, last = self.moments[warm_up], self.moments[-1]
        steps, whole = last.steps - first.steps, last.at - first.at
        updating = sum(end.at - start.played for start, end in zip(self.moments[warm_up:-1], self.moments[warm_up + 1 :], strict=True))
        written = last.written - first.written
        return {
            "env_steps_per_s": steps / whole,
            "tokens_per_s": written / (whole - updating),
            "rollout_s_per_env_step": (whole - updating) / steps,
            "update_s_per_env_step": updating / steps,
            "cpu_s_per_env_step": (last.cpu - first.cpu) / steps,
            "peak_mb": self.peak_mb,
            "env_steps": steps,
            "optimizer_steps_per_env_step": (last.optimizer_steps - first.optimizer_steps) / steps,
            "context_tokens_per_env_step": (last.read - first.read) / steps,
            "response_tokens_per_env_step": written / steps,
        }
