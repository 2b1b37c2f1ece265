"""Which members live on which host and device, as `collm.models.team` will place them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from collm.algorithms.registry import has_critics, make_method
from collm.config.schema import AgentConfig, Config, ModelSection
from collm.errors import ModelError
from collm.models.team import agent_names
from collm.planning.architecture import Kind


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """A policy or a critic. `key` is where its section stands in the configuration: agents.0, critic."""

    name: str
    kind: Literal["policy", "critic"]
    key: str
    section: ModelSection
    agents: tuple[str, ...]
    """Whose histories it reads."""
    value_head: bool
    """A critic, or a policy whose critic shares its backbone."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One base model in memory and its members: one tuned in full, or any number of adapters."""

    name: str
    model: str
    kind: Kind
    dtype: torch.dtype
    device: str
    members: tuple[MemberSpec, ...]

    @property
    def tuning(self) -> Literal["full", "lora"]:
        return self.members[0].section.tuning

    @property
    def policies(self) -> tuple[MemberSpec, ...]:
        return tuple(m for m in self.members if m.kind == "policy")


def place(config: Config, auto: Literal["cpu", "cuda"]) -> list[HostSpec]:
    """The hosts of a team in the order in which they are loaded; `auto` is what `device: auto` stands for.

    Raises ModelError for a device that is none.
    """
    hosts: dict[str, HostSpec] = {}
    for member, model in _members(config):
        section = member.section
        key = member.name if section.tuning == "full" else f"{model} ({section.dtype} on {section.device})"
        if key in hosts:
            hosts[key] = replace(hosts[key], members=(*hosts[key].members, member))
        else:
            kind: Kind = "causal" if member.kind == "policy" or section.tuning == "lora" else "backbone"
            dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[section.dtype]
            hosts[key] = HostSpec(key, model, kind, dtype, device_name(section.device, auto), (member,))
    return list(hosts.values())


def device_name(device: str, auto: Literal["cpu", "cuda"]) -> str:
    """cpu, cuda:0 ...: the same name for the same device, whether or not it is in this machine."""
    try:
        named = torch.device(auto if device == "auto" else device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not one; use auto, cpu, cuda or cuda:N") from error
    return f"cuda:{named.index or 0}" if named.type == "cuda" else named.type


def _members(config: Config) -> list[tuple[MemberSpec, str]]:
    names, method = agent_names(len(config.agents)), make_method(config)
    shared = config.critic.shared_backbone and has_critics(method)
    found = [
        (MemberSpec(name, "policy", f"agents.{i}", agent, (name,), shared), agent.model)
        for i, (name, agent) in enumerate(zip(names, config.agents, strict=True))
    ]
    if has_critics(method) and not shared:
        models = {name: agent.model for name, agent in zip(names, config.agents, strict=True)}
        for name, agents in method.critics(names).items():
            model = config.critic.model or models[agents[0]]
            found.append((MemberSpec(name, "critic", "critic", config.critic, agents, True), model))
    return found


def agent_section(member: MemberSpec) -> AgentConfig:
    """A policy's section."""
    assert isinstance(member.section, AgentConfig)
    return member.section
