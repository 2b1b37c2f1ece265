"""A team: agents' policies and critics placed on hosts.

Sections tuned by LoRA that name the same model, device and dtype share one host; everything else gets its own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from collm.config.schema import AgentConfig, Config, CriticConfig, ModelSection
from collm.errors import EnvContractError, ModelError
from collm.models.chat import ChatFormat
from collm.models.critic_input import CriticReader, OwnHistoryReader
from collm.models.decode_graph import graphs_on
from collm.models.host import Host
from collm.models.loading import LoadedModel, active_dropout, check_context, load_model, pick_device, stop_ids
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Policy:
    """pi_i: an agent's name, the host that holds it and the way its messages become tokens."""

    agent: str
    host: Host
    chat: ChatFormat
    config: AgentConfig


@dataclass(frozen=True, slots=True)
class Critic:
    """V_phi: its name, the member of its host that computes it, its input rendering and the agents whose histories it reads."""

    name: str
    host: Host
    member: str
    """Its own name, or the agent's whose backbone it shares."""
    reader: CriticReader | OwnHistoryReader
    agents: tuple[str, ...]

    @property
    def shares_backbone(self) -> bool:
        """Whether it is a value head on an agent's own model."""
        return self.member != self.name


@dataclass(frozen=True, slots=True)
class Team:
    """Everything with weights."""

    policies: dict[str, Policy]
    critics: dict[str, Critic]
    hosts: dict[str, Host]


def agent_names(n: int) -> list[str]:
    """agent_0 ... as environments of this project name them."""
    return [f"agent_{i}" for i in range(n)]


def build_team(
    config: Config,
    names: list[str],
    critic_agents: Mapping[str, tuple[str, ...]],
    n_features: int,
    live: Mapping[str, LoadedModel],
) -> Team:
    """Load every model of the configuration onto its host.

    `names` are the environment's agents in order; `critic_agents` the critics the method wants and whose histories each
    reads; `n_features` the length of m_t as numbers; `live` holds models that are already in memory, by member name
    ("agent_0", "critic" ...), used in place of the configured model.
    Raises ModelError for a model that cannot be loaded or a LoRA target that fits nothing.
    """
    members = [*names, *critic_agents]
    for name in members:
        if not re.fullmatch(r"[\w-]+", name) or members.count(name) > 1:
            raise EnvContractError(
                f"agent name {name!r}: give each agent a name of its own, of letters, digits, _ and - (and not 'critic')"
            )
    builder = _Builder(config, live, n_features)
    policies = {name: builder.policy(name, agent) for name, agent in zip(names, config.agents, strict=True)}
    models = {name: agent.model for name, agent in zip(names, config.agents, strict=True)}
    if config.training.cuda_graphs and (alone := _alone_on_gpus([policy.host for policy in policies.values()])) is not None:
        alone.record_steps(graphs_on(alone.device))
    if config.critic.shared_backbone:
        shared = {name: builder.shared_critic(name, policies[agents[0]]) for name, agents in critic_agents.items()}
        return Team(policies, shared, builder.hosts)
    critics = {name: builder.critic(name, agents, models[agents[0]]) for name, agents in critic_agents.items()}
    return Team(policies, critics, builder.hosts)


def cast_at_every_pass(member: str, section: ModelSection, device: torch.device) -> str | None:
    """What to tell whose frozen base is wider than a GPU computes; else None. Autocast keeps its casts of trained weights only."""
    if device.type != "cuda" or section.tuning != "lora" or section.dtype != "float32":
        return None
    return (
        f"{member}: its frozen base {section.model} is in float32, which a GPU casts to bfloat16 anew for every token; "
        "set dtype: bfloat16 (adapters stay in float32)"
    )


def _alone_on_gpus(generating: list[Host]) -> Host | None:
    """The only one of these hosts on a GPU: nobody else may use one while a step is recorded, and hosts generate side by side."""
    on_gpus = {host.name: host for host in generating if host.device.type == "cuda"}
    return next(iter(on_gpus.values())) if len(on_gpus) == 1 else None


class _Builder:
    def __init__(self, config: Config, live: Mapping[str, LoadedModel], n_features: int) -> None:
        self._config = config
        self._live = live
        # How many numbers of m_t a critic's head reads beside the hidden state.
        self._features = n_features if config.critic.reads == "features" else 0
        self.hosts: dict[str, Host] = {}

    def policy(self, name: str, section: AgentConfig) -> Policy:
        host = self._host(name, section.model, section, "causal")
        loaded = host.loaded
        chat = ChatFormat(loaded.tokenizer, section.template_args)
        rule = SupportRule(section.temperature, section.top_p, section.top_k)
        check_context(loaded.model, name, "context_window", self._config.context_window)
        closer = chat.closer_id()
        stops = stop_ids(loaded.model, loaded.tokenizer) | ({closer} if closer is not None else set())
        spec = DecodeSpec(rule, section.max_new_tokens, stops)
        lora = section.lora if section.tuning == "lora" else None
        host.add_policy(
            name,
            spec,
            section.optimizer,
            lora,
            derive_seed(self._config.seed, "init", name),
            value_features=self._features if self._config.critic.shared_backbone else None,
            reference=self._config.algorithm.kl_coef > 0,
        )
        return Policy(name, host, chat, section)

    def shared_critic(self, name: str, policy: Policy) -> Critic:
        """The value head on an agent's own backbone: the critic's member is the policy's."""
        reads = OwnHistoryReader(policy.agent, self._config.critic.reads == "features")
        return Critic(name, policy.host, policy.agent, reads, (policy.agent,))

    def critic(self, name: str, agents: tuple[str, ...], default_model: str) -> Critic:
        section: CriticConfig = self._config.critic
        host = self._host(name, section.model or default_model, section, "causal" if section.tuning == "lora" else "backbone")
        lora = section.lora if section.tuning == "lora" else None
        check_context(host.loaded.model, name, "critic.context_window", section.context_window)
        seed = derive_seed(self._config.seed, "init", name)
        host.add_critic(name, self._features, section.optimizer, lora, seed, slow_rate=section.target_rate)
        reader = CriticReader(
            name, host.loaded.tokenizer, agents, self._config.history, section.reads, section.kind, section.context_window
        )
        return Critic(name, host, name, reader, agents)

    def _host(self, member: str, model: str, section: ModelSection, kind: str) -> Host:
        shared = f"{model} ({section.dtype} on {section.device})"
        key = member if section.tuning == "full" or member in self._live else shared
        if key not in self.hosts:
            loaded = self._taken_live(member, section) or load_model(
                model, kind, {"float32": torch.float32, "bfloat16": torch.bfloat16}[section.dtype]
            )
            training, device = self._config.training, pick_device(section.device)
            if member not in self._live and (note := cast_at_every_pass(member, section, device)) is not None:
                warnings.warn(note, stacklevel=2)
            self.hosts[key] = Host(key, loaded, device, training.micro_batch_tokens, training.gradient_checkpointing)
        return self.hosts[key]

    def _taken_live(self, member: str, section: ModelSection) -> LoadedModel | None:
        live = self._live.get(member)
        if live is None:
            return None
        if any(live.model is host.loaded.model for host in self.hosts.values()):
            raise ModelError(f"models[{member!r}] is the same object as another member's; give each member a model of its own")
        dtype = next(live.model.parameters()).dtype
        if section.tuning == "full" and dtype in (torch.bfloat16, torch.float16):
            raise ModelError(
                f"models[{member!r}] is in {dtype}, in which small Adam steps round to nothing; "
                "load it with dtype=torch.float32 or set tuning: lora"
            )
        if self._config.training.gradient_checkpointing and (dropout := active_dropout(live.model)):
            raise ModelError(
                f"models[{member!r}] has {dropout}, which gradient checkpointing would switch on; "
                "load it with dropout 0 or set training.gradient_checkpointing: false"
            )
        return live
