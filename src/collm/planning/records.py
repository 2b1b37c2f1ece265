"""What a plan says: bytes per host and member, per phase and device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["rollout", "update", "step", "export"]
PHASES: dict[Phase, str] = {
    "rollout": "generation, the larger of rollouts and evaluations",
    "update": "forward and backward passes, gradients accumulating",
    "step": "optimizer steps, all members' gradients in place",
    "export": "writing the final models at the end of the run",
}
"""Each phase ends before the next begins. Hosts work side by side within the first three; they export one after the other."""


@dataclass(frozen=True, slots=True)
class MemberMemory:
    """A member's own tensors, in bytes. Of full tuning the host's weights are its own, and `weights` is its value head's."""

    name: str
    weights: int
    gradients: int
    optimizer: int
    step: int
    """Made and freed by one optimizer step."""
    on_disk: int
    """In a checkpoint: what it trains, optimizer states and slow copy."""


@dataclass(frozen=True, slots=True)
class HostMemory:
    """A host's bytes. `base` are the model's weights, `copies` a KL term's frozen copy of them and critics' slow copies."""

    name: str
    model: str
    members: tuple[MemberMemory, ...]
    base: int
    copies: int
    cache: int
    """Keys and values at the fullest moment of generation: the batch's buffer and the rows kept from turn to turn."""
    generation: int
    """What prefill, decoding or sampling make beside the cache."""
    activations: int
    logits: int
    """What the LM head adds to the activations at the update's peak."""
    export: int
    final_on_disk: int
    shared: bool
    """Adapters over a frozen base; otherwise one member trains all of it."""

    @property
    def weights(self) -> int:
        """Of base, adapters, heads and copies."""
        return self.base + self.copies + sum(m.weights for m in self.members)

    @property
    def gradients(self) -> int:
        return sum(m.gradients for m in self.members)

    @property
    def optimizer(self) -> int:
        return sum(m.optimizer for m in self.members)

    @property
    def persistent(self) -> int:
        """What is there in every phase after the first update."""
        return self.weights + self.optimizer

    def working(self, phase: Phase) -> int:
        """What a phase needs beside that."""
        return {"rollout": self.cache, "update": self.gradients, "step": self.gradients, "export": self.export}[phase] + self.passing(phase)

    def passing(self, phase: Phase) -> int:
        """Of it, what is made and freed all the time."""
        return {
            "rollout": self.generation,
            "update": self.activations + self.logits,
            "step": max((m.step for m in self.members), default=0),
            "export": 0,
        }[phase]

    @property
    def peak(self) -> int:
        """Its own fullest moment, which need not be the device's."""
        return self.persistent + max(self.working(phase) for phase in PHASES)


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device, what is on it, and what it has."""

    device: str
    hosts: tuple[HostMemory, ...]
    process: int
    """Of the process itself: the libraries, and on a GPU the CUDA context and its workspaces."""
    held_back: float
    """Share of what is made and freed that the allocator keeps."""
    capacity: int | None
    """None where it is not in this machine and nobody said."""

    def needed(self, phase: Phase) -> int:
        """In one phase, all hosts at their fullest at the same time."""
        working = [host.working(phase) for host in self.hosts]
        held = round(self.held_back * sum(host.passing(phase) for host in self.hosts))
        return self.process + sum(host.persistent for host in self.hosts) + held + (max(working) if phase == "export" else sum(working))

    @property
    def fullest(self) -> Phase:
        return max(PHASES, key=self.needed)

    @property
    def peak(self) -> int:
        return self.needed(self.fullest)

    @property
    def fits(self) -> bool | None:
        return None if self.capacity is None else self.peak <= self.capacity


@dataclass(frozen=True, slots=True)
class Disk:
    """What a run writes, in bytes."""

    checkpoint: int
    checkpoints: int
    """As many as are kept, and the one being written."""
    final: int


@dataclass(frozen=True, slots=True)
class Plan:
    """All devices of a run."""

    devices: tuple[DevicePlan, ...]
    disk: Disk

    @property
    def fits(self) -> bool | None:
        """None where nothing is known of a device and all others fit."""
        return _all(device.fits for device in self.devices)

    @property
    def excess(self) -> int:
        """By how much the devices are too small, added up."""
        return sum(max(0, d.peak - d.capacity) for d in self.devices if d.capacity is not None)

    @property
    def peak(self) -> int:
        """Of all devices together."""
        return sum(d.peak for d in self.devices)


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = list(answers)
    if False in found:
        return False
    return None if None in found else True
