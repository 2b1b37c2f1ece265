"""What agents are asked at the nodes of a rollout, their answers, and what it all cost."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from collm.models.generation import Answer, GenerationRequest
from collm.models.host import Host
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.models.workers import side_by_side
from collm.rollout.branch import Branch, RolloutSettings

Answers = dict[Hashable, Answer]
"""By (episode, agent, node, sample)."""
GREEDY = -1
"""The sample index of a node's greedy response."""


@dataclass(slots=True)
class RolloutCost:
    """What a rollout took: seconds by phase, inference calls (one per agent, node and sample) and generated tokens."""

    generate_seconds: float = 0.0
    reward_seconds: float = 0.0
    inference_calls: int = 0
    generated_tokens: int = 0
    context_tokens: int = 0
    peak_rows: int = 0
    """Most rows answered together."""

    def count(self, answers: Iterable[Answer]) -> None:
        """Add what these answers took."""
        for request, generation in answers:
            self.inference_calls += 1
            self.generated_tokens += len(generation.response_ids)
            self.context_tokens += len(request.context_ids)


def requests_of(branch: Branch, policies: Mapping[str, Policy], settings: RolloutSettings) -> list[GenerationRequest]:
    """What every agent is asked at a node, each from its own history."""
    samples = [GREEDY] if branch.greedy else [*range(settings.tree.samples), *([GREEDY] if settings.tree.greedy_baseline else [])]
    return [request_of(branch, name, k, settings) for name in policies for k in samples]


def request_of(branch: Branch, agent: str, k: int, settings: RolloutSettings) -> GenerationRequest:
    """An agent's sample k at a node, from its history as it stands."""
    key = (branch.episode.id, agent, branch.node, k)
    seed = derive_seed(branch.episode.seed, "turn", branch.turn, agent, branch.node, k)
    return GenerationRequest(agent, key, _before(branch, agent), branch.upcoming.contexts[agent], seed, k == GREEDY or settings.greedy)


def ask(requests: Sequence[GenerationRequest], policies: Mapping[str, Policy], executor: Executor, cost: RolloutCost) -> Answers:
    """Generate all answers, one batch per host and the hosts at the same time."""
    begun = time.perf_counter()
    batches: dict[str, list[GenerationRequest]] = {}
    for request in requests:
        batches.setdefault(policies[request.member].host.name, []).append(request)
    hosts = {host.name: host for host in hosts_of(policies)}
    started = side_by_side(executor, [partial(hosts[name].generate, batch) for name, batch in batches.items()])
    answers: Answers = {}
    for batch, future in zip(batches.values(), started, strict=True):
        answers |= {r.key: (r, generation) for r, generation in zip(batch, future.result(), strict=True)}
    cost.count(answers.values())
    cost.peak_rows = max(cost.peak_rows, *(len(batch) for batch in batches.values()))
    cost.generate_seconds += time.perf_counter() - begun
    return answers


def _before(branch: Branch, agent: str) -> Hashable:
    """The conversation that this node's continues: the response with which the agent came here."""
    if branch.node < 0:
        return None
    came = branch.episode.transitions[branch.node]
    return (branch.episode.id, agent, came.node, GREEDY if came.greedy else came.pick(agent))


def hosts_of(policies: Mapping[str, Policy]) -> list[Host]:
    """Each host once."""
    return list({p.host.name: p.host for p in policies.values()}.values())
