"""From a configuration to the memory it will take. Nothing is loaded but the models' config.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from collm.config.schema import Config, CriticConfig
from collm.errors import ConfigError
from collm.models.sampling import SupportRule
from collm.planning.architecture import Architecture, read_architecture
from collm.planning.devices import HELD_BACK, PROCESS_BYTES
from collm.planning.generation_cost import Generator
from collm.planning.parameters import Tuned, base_bytes, bytes_of, optimizer_cost, trained_shapes
from collm.planning.placement import HostSpec, MemberSpec, agent_section, place
from collm.planning.records import DevicePlan, Disk, HostMemory, MemberMemory, Plan
from collm.planning.rollout_cost import GenerationCost, generation_cost
from collm.planning.update_cost import PassCost, Reference, Trained, policy_pass, value_pass
from collm.planning.workload import Expected, needs_turns, policy_batch, value_batch

Capacity = Callable[[str], int | None]
"""Bytes that a device has, by its name; None where nobody knows."""


def predict(config: Config, capacity: Capacity, auto: Literal["cpu", "cuda"], expected: Expected | None = None) -> Plan:
    """The plan of a run. `auto` is what `device: auto` stands for.

    Raises ModelError for a model whose config.json is not at hand or whose adapters fit nothing, and ConfigError for
    lengths that contradict the configuration.
    """
    expected = expected or Expected()
    if needs_turns(config, expected):
        raise ConfigError(
            f"method {config.method} rolls out trees, whose size depends on the turn limit H, and nothing says how many turns "
            "an environment of your own has; give option --turns"
        )
    specs = place(config, auto)
    hosts = [_HostPlanner(config, spec, expected).memory() for spec in specs]
    names = list(dict.fromkeys(spec.device for spec in specs))
    devices = tuple(
        DevicePlan(
            name,
            tuple(host for host, spec in zip(hosts, specs, strict=True) if spec.device == name),
            PROCESS_BYTES[torch.device(name).type],
            HELD_BACK[torch.device(name).type],
            capacity(name),
        )
        for name in names
    )
    one = sum(m.on_disk for host in hosts for m in host.members)
    disk = Disk(one, one * (config.training.keep_checkpoints + 1), sum(host.final_on_disk for host in hosts))
    return Plan(devices, disk)


@dataclass(frozen=True, slots=True)
class _HostPlanner:
    """One host's share, column by column."""

    config: Config
    spec: HostSpec
    expected: Expected

    def memory(self) -> HostMemory:
        spec = self.spec
        cost, generation = self._update(), self._generation()
        base = base_bytes(self._architecture, spec.kind, spec.dtype)
        reference = base if self._reference == "copy" else 0
        return HostMemory(
            name=spec.name,
            model=spec.model,
            members=tuple(self._member(m) for m in spec.members),
            base=base,
            copies=reference + sum(self._slow_copy(m) for m in spec.members),
            cache=generation.cache,
            generation=generation.working,
            activations=cost.activations,
            logits=cost.logits,
            export=self._export(),
            final_on_disk=self._final_on_disk(),
            shared=spec.tuning == "lora",
        )

    @property
    def _architecture(self) -> Architecture:
        return read_architecture(self.spec.model)

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.spec.device).type == "cuda"

    @property
    def _reference(self) -> Reference:
        if self.config.algorithm.kl_coef == 0 or not self.spec.policies:
            return "none"
        return "copy" if self.spec.tuning == "full" else "adapters_off"

    # -- what stays ------------------------------------------------------------------------------------------------

    def _member(self, member: MemberSpec) -> MemberMemory:
        tuned = self._tuned(member)
        shapes = trained_shapes(tuned, 0 if member.value_head else None)
        trained = bytes_of(shapes)
        optimizer = member.section.optimizer
        cost = optimizer_cost(shapes, optimizer.kind, optimizer.gradient_clip is not None, self._on_gpu)
        own = trained if tuned.lora is not None else trained - bytes_of(trained_shapes(tuned, None))
        return MemberMemory(member.name, own, trained, cost.states, cost.step, trained + cost.states + self._slow_copy(member))

    def _slow_copy(self, member: MemberSpec) -> int:
        if not isinstance(member.section, CriticConfig) or member.section.target_rate is None:
            return 0
        return bytes_of(trained_shapes(self._tuned(member), 0))

    def _tuned(self, member: MemberSpec) -> Tuned:
        return Tuned(self._architecture, self.spec.kind, member.section.lora if member.section.tuning == "lora" else None)

    # -- generation ------------------------------------------------------------------------------------------------

    def _generation(self) -> GenerationCost:
        if not self.spec.policies:
            return GenerationCost(0, 0)
        loras = tuple(m.section.lora for m in self.spec.policies) if self.spec.tuning == "lora" else ()
        return generation_cost(self.config, self.spec, self.expected, Generator(self._architecture, self.spec.dtype, loras, self._on_gpu))

    # -- learning --------------------------------------------------------------------------------------------------

    def _update(self) -> PassCost:
        """Of the member whose pass takes most; those of one host run one after the other."""
        costs = [self._policy_cost(m) if m.kind == "policy" else self._critic_cost(m) for m in self.spec.members]
        return max(costs, key=lambda c: c.activations + c.logits)

    def _policy_cost(self, member: MemberSpec) -> PassCost:
        agent = agent_section(member)
        batch = policy_batch(self.config, agent, self.expected)
        rule = SupportRule(agent.temperature, agent.top_p, agent.top_k)
        return policy_pass(self._trained(member), batch, rule, self._reference, 0 if member.value_head else None)

    def _critic_cost(self, member: MemberSpec) -> PassCost:
        agents = [agent for i, agent in enumerate(self.config.agents) if f"agent_{i}" in member.agents]
        return value_pass(self._trained(member), value_batch(self.config, agents, self.expected), 0)

    def _trained(self, member: MemberSpec) -> Trained:
        lora = member.section.lora if member.section.tuning == "lora" else None
        checkpointing = self.config.training.gradient_checkpointing
        return Trained(self._architecture, self.spec.kind, self.spec.dtype, lora, self._on_gpu, checkpointing)

    # -- the end of the run ----------------------------------------------------------------------------------------

    def _export(self) -> int:
        """Adapters are merged into a fresh fp32 copy of the base, one member at a time; full weights are written as they are."""
        return 0 if self.spec.tuning == "full" else self._in_fp32

    @property
    def _in_fp32(self) -> int:
        return base_bytes(self._architecture, self.spec.kind, torch.float32)

    def _final_on_disk(self) -> int:
        return len(self.spec.members) * self._in_fp32
