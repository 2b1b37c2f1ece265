"""Plays a protocol's turns in lockstep and keeps what was said.

Histories stay append-only: what an agent is told within a turn is one more message of its history, and an answer that it
gives again leaves the earlier one in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from collm.evaluation.protocols import Protocol, TurnSettings
from collm.models.generation import Generation, GenerationRequest
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.rollout.asking import Answers, RolloutCost, ask, request_of
from collm.rollout.branch import Branch, RolloutSettings


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of one agent: what it was told, the call, and what came."""

    message: str
    request: GenerationRequest
    generation: Generation
    text: str


JointTurn = list[dict[str, Said]]
"""The phases of one joint turn: those in one phase answer at the same time."""


class Talks:
    """How agents answer within a turn, for `collect`. `turns` holds every joint turn played, by episode id."""

    def __init__(self, protocol: Protocol, settings: TurnSettings) -> None:
        self._protocol = protocol
        self._settings = settings
        self.turns: dict[str, list[JointTurn]] = {}

    def __call__(
        self, live: Sequence[Branch], policies: Mapping[str, Policy], settings: RolloutSettings, executor: Executor, cost: RolloutCost
    ) -> Answers:
        """Play one turn of every branch; an agent's last answer is what the environment gets. Rollouts must be chains."""
        talks = [_Talk(branch, self._protocol, self._settings, policies, settings) for branch in live]
        answers: Answers = {}
        while going := [talk for talk in talks if talk.told]:
            found = ask([request for talk in going for request in talk.requests()], policies, executor, cost)
            for talk in going:
                talk.hear(found)
            answers |= found
        for talk in talks:
            self.turns.setdefault(talk.episode, []).append(talk.phases)
        return answers


class _Talk:
    """One turn of one episode in the making."""

    def __init__(
        self, branch: Branch, protocol: Protocol, turn: TurnSettings, policies: Mapping[str, Policy], settings: RolloutSettings
    ) -> None:
        self.episode = branch.episode.id
        self.phases: JointTurn = []
        self._branch, self._policies, self._settings = branch, policies, settings
        self._protocol_phases = protocol.phases(branch.upcoming.observations, turn)
        self.told: dict[str, str] = next(self._protocol_phases)
        """Who answers next and what each is told; empty when the turn is over."""
        self._last: dict[str, Generation] = {}

    def requests(self) -> list[GenerationRequest]:
        return [self._request(agent, message) for agent, message in self.told.items()]

    def hear(self, answers: Answers) -> None:
        phase: dict[str, Said] = {}
        for agent, message in self.told.items():
            request, generation = answers[request_of(self._branch, agent, 0, self._settings).key]
            phase[agent] = Said(message, request, generation, self._policies[agent].chat.text(generation.response_ids))
            self._last[agent] = generation
        self.phases.append(phase)
        try:
            self.told = self._protocol_phases.send({agent: said.text for agent, said in phase.items()})
        except StopIteration:
            self.told = {}

    def _request(self, agent: str, message: str) -> GenerationRequest:
        branch, history = self._branch, self._branch.histories[agent]
        first = request_of(branch, agent, 0, self._settings)
        if agent not in self._last:
            if message == branch.upcoming.observations[agent]:
                return first
            # Takes the place of the bare observation, which nobody has answered.
            return replace(first, context_ids=history.observe(message))
        history.respond(self._last[agent].response_ids)
        said_before = sum(agent in phase for phase in self.phases)
        seed = derive_seed(branch.episode.seed, "turn", branch.turn, agent, branch.node, "again", said_before)
        return replace(first, before=first.key, context_ids=history.observe(message), seed=seed)
