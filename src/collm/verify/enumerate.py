"""Every chain or rollout tree of a problem, played by the production `collect`, with its probability.

The agents' hosts answer from their exact response distributions and the environment draws from its tables, both through
one oracle; all else (histories, branching, pairing, records) is production code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Literal

import torch

from collm.config.schema import AgentConfig
from collm.models.chat import ChatFormat
from collm.models.generation import Answer, Generation, GenerationRequest
from collm.models.host import Host
from collm.models.host_batch import HostBatch
from collm.models.team import Policy
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.types import Episode, StopReason
from collm.verify.choices import Oracle, executions
from collm.verify.dec_pomdp import LabEnv
from collm.verify.exact import Ids, response_ids
from collm.verify.tiny_teams import CONTEXT_WINDOW, Cast


class Inline(Executor):
    """Runs what is submitted at once, in order."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # An error leaves from here, where it happened, rather than from the future.
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass(frozen=True, slots=True)
class Weighted:
    """An episode and its exact probability."""

    probability: float
    episode: Episode


class CachedChat(ChatFormat):
    """The production format, asked once per message: an enumeration sees the same few messages thousands of times."""

    def __init__(self, cast: Cast, agent: int) -> None:
        super().__init__(cast.live[cast.problem.names[agent]].tokenizer, {})
        self._first = functools.cache(super().first)
        self._following = functools.cache(super().following)
        self._text = functools.cache(super().text)

    def first(self, message: str) -> Ids:
        return self._first(message)

    def following(self, message: str, last_id: int) -> Ids:
        return self._following(message, last_id)

    def text(self, response_ids: Ids) -> str:
        return self._text(response_ids)


class Responses:
    """One agent's exact response distributions, by plain passes token by token."""

    def __init__(self, cast: Cast, agent: int) -> None:
        self._model = cast.model(agent)
        self._spec = cast.problem.agents[agent]
        self._all = [response_ids(self._spec, text) for text in self._spec.texts()]
        self._known: dict[Ids, tuple[list[float], Ids]] = {}

    def __getitem__(self, context: Ids) -> tuple[list[Ids], list[float], Ids]:
        """All responses, their probabilities after `context`, and the one that takes the likeliest token at each step."""
        if context not in self._known:
            probabilities = [self._probability(context, response) for response in self._all]
            self._known[context] = (probabilities, self._greedy(context))
        return self._all, *self._known[context]

    def _probability(self, context: Ids, response: Ids) -> float:
        logprobs = [self._next(context + response[:m])[token] for m, token in enumerate(response)]
        return float(torch.stack(logprobs).sum().exp())

    def _greedy(self, context: Ids) -> Ids:
        response: Ids = ()
        while len(response) < self._spec.max_new_tokens and self._spec.eos_id not in response:
            response = (*response, int(self._next(context + response).argmax()))
        return response

    @torch.no_grad()
    def _next(self, ids: Ids) -> torch.Tensor:
        logits_V = self._model(input_ids=torch.tensor([ids])).logits[0, -1]
        return (logits_V / self._spec.temperature).log_softmax(-1)


class OracleBatch(HostBatch):
    """Has every answer ready as soon as it is asked."""

    def __init__(self, host: Host, answer: Callable[[GenerationRequest], Generation]) -> None:
        super().__init__(host)
        self._answer = answer
        self._ready: list[Answer] = []

    def __len__(self) -> int:
        return len(self._ready)

    def admit(self, requests: Sequence[GenerationRequest]) -> None:
        self._ready += [(request, self._answer(request)) for request in requests]

    def decode(self, steps: int | None = None) -> list[Answer]:
        ready, self._ready = self._ready, []
        return ready


class OracleHost(Host):
    """Answers with whatever the oracle says, out of the exact distribution."""

    def __init__(self, cast: Cast, agent: int, oracle: Oracle, couple: bool, free: Callable[[GenerationRequest], bool]) -> None:
        name = cast.problem.names[agent]
        super().__init__(name, cast.live[name], torch.device("cpu"), 1 << 14, False)
        self._responses, self._eos = Responses(cast, agent), cast.problem.agents[agent].eos_id
        self._oracle, self._couple, self._free = oracle, couple, free

    def open_batch(self) -> OracleBatch:
        return OracleBatch(self, self._answer)

    def forget(self, keys: Sequence[Hashable] | None = None) -> None:
        pass

    def _answer(self, request: GenerationRequest) -> Generation:
        responses, probabilities, greedy = self._responses[request.context_ids]
        ids = greedy
        if not request.greedy and self._free(request):
            _, _, _, sample = request.key  # type: ignore[misc]
            couple = (request.member, request.context_ids, sample) if self._couple else None
            ids = responses[self._oracle.pick(probabilities, couple)]
        stop = StopReason.EOS if ids[-1] == self._eos else StopReason.LENGTH
        return Generation(ids, stop, float("nan"), 1.0)


def rollout_settings(shape: TreeShape, history: Literal["full", "last"], stamp: tuple[int, int] = (0, 0)) -> RolloutSettings:
    """As the trainer plays: sampled, everything in flight."""
    return RolloutSettings(
        history, CONTEXT_WINDOW, greedy=False, update=0, in_flight=1 << 20, tree=shape, keep_cut=False, stamp=lambda: stamp
    )


def agent_configs(cast: Cast) -> list[AgentConfig]:
    """The configuration of every lab agent; gradients are taken as they come, so nothing clips them."""
    plain = AgentConfig(model="x").optimizer.model_copy(update={"gradient_clip": None})
    return [
        AgentConfig(model="x", max_new_tokens=a.max_new_tokens, temperature=a.temperature, optimizer=plain) for a in cast.problem.agents
    ]


def enumerate_episodes(
    cast: Cast,
    shape: TreeShape,
    history: Literal["full", "last"] = "full",
    *,
    couple: bool = False,
    free: Callable[[GenerationRequest], bool] = lambda _: True,
) -> list[Weighted]:
    """Every episode with its probability.

    `couple` lets nodes with equal histories answer alike: each node's own law stays, so the mean of anything that is a
    sum over nodes does too, and far fewer trees are left. Requests that are not `free` get the greedy response.
    """
    settings = rollout_settings(shape, history)
    oracle_policies: dict[str, Policy] = {}
    count = 0

    def play(oracle: Oracle) -> tuple[Episode, RolloutCost]:
        nonlocal count
        if not oracle_policies:
            for i, config in enumerate(agent_configs(cast)):
                host = OracleHost(cast, i, oracle, couple, free)
                oracle_policies[host.name] = Policy(host.name, host, CachedChat(cast, i), config)
        count += 1
        plan = EpisodePlan(f"{count:06d}", None, 0)
        episodes, cost = collect([plan], lambda: LabEnv(cast.problem, oracle), oracle_policies, settings, Inline(), lambda: None)
        return episodes[0], cost

    return [Weighted(probability, episode) for probability, (episode, _) in executions(play)]
