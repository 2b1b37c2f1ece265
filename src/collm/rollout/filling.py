"""Rollouts that keep the batch full: conversations that are answered make room for the next turn of others.

Hosts decode some tokens at a time, side by side. In between, episodes whose agents have all answered are stepped, and what
they and waiting episodes ask next joins the batch. When something joins depends on counts of tokens and rows only, never on
the clock: a run repeats itself. Within an episode turns stay in step, so that its record is that of one played alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial

from collm.envs.base import TextEnv
from collm.models.generation import Answer, GenerationRequest
from collm.models.host import Host
from collm.models.host_batch import HostBatch
from collm.models.team import Policy
from collm.models.workers import side_by_side
from collm.rollout.asking import Answers, RolloutCost, hosts_of, requests_of
from collm.rollout.branch import Branch, EpisodePlan, Joint, RolloutSettings, open_root
from collm.rollout.outcome import Outcome
from collm.rollout.playing import joints_of, played
from collm.rollout.stepping import Stepper
from collm.types import Episode

STEPS = 16
"""Tokens decoded between two looks for who has finished."""
JOIN_SHARE = 0.25
"""Conversations wait to join until they are this share of those being answered: each time the caches are put together anew."""


@dataclass(slots=True)
class _Playing:
    """An episode being played: its live nodes, what was asked at them, and what is being stepped."""

    episode: Episode
    live: list[Branch]
    asked: int = 0
    answers: Answers = field(default_factory=dict)
    stepping: list[tuple[Joint, Future[Outcome]]] = field(default_factory=list)


class Filling:
    """One rollout."""

    def __init__(
        self,
        plans: Sequence[EpisodePlan],
        make_env: Callable[[], TextEnv],
        policies: Mapping[str, Policy],
        settings: RolloutSettings,
        executor: Executor,
        steps: Stepper,
        cost: RolloutCost,
    ) -> None:
        self._waiting: Iterator[EpisodePlan] = iter(plans)
        self._make_env = make_env
        self._policies = policies
        self._settings = settings
        self._executor = executor
        self._steps = steps
        self._cost = cost
        self._hosts: dict[str, Host] = {host.name: host for host in hosts_of(policies)}
        self._batches: dict[str, HostBatch] = {name: host.open_batch() for name, host in self._hosts.items()}
        self._playing: dict[str, _Playing] = {}
        self._joining: dict[str, list[GenerationRequest]] = {name: [] for name in self._hosts}

    def play(self, on_turn: Callable[[], None]) -> list[Episode]:
        """All episodes, in order of the plans. `on_turn` is called between pieces of work and may raise to stop."""
        episodes: list[Episode] = []
        while True:
            on_turn()
            for plan in self._openings():
                env = self._make_env()
                # Worker processes start while the first turn is being generated.
                self._steps.prepare(env)
                root = open_root(plan, env, self._policies, self._settings)
                playing = _Playing(root.episode, [root])
                self._playing[plan.id] = playing
                episodes.append(playing.episode)
                self._ask(playing)
            if not self._playing:
                return episodes
            for request, generation in self._decode():
                self._playing[_episode_of(request)].answers[request.key] = (request, generation)
            self._advance()

    def _openings(self) -> Iterator[EpisodePlan]:
        while len(self._playing) < self._settings.in_flight:
            plan = next(self._waiting, None)
            if plan is None:
                return
            yield plan

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(self, playing: _Playing) -> list[GenerationRequest]:
        requests = [r for branch in playing.live for r in requests_of(branch, self._policies, self._settings)]
        playing.asked, playing.answers = len(requests), {}
        for request in requests:
            self._joining[self._policies[request.member].host.name].append(request)
        return requests

    def _decode(self) -> list[Answer]:
        """Let who waits join where it is time, and decode on all hosts at the same time."""
        begun = time.perf_counter()
        running = side_by_side(self._executor, [partial(self._work, name, self._due(name)) for name in self._hosts])
        results = [future.result() for future in running]
        answers = [answer for _, some in results for answer in some]
        self._cost.count(answers)
        self._cost.peak_rows = max(self._cost.peak_rows, *(rows for rows, _ in results))
        self._cost.generate_seconds += time.perf_counter() - begun
        return answers

    def _due(self, name: str) -> list[GenerationRequest]:
        joining, decoding = self._joining[name], len(self._batches[name])
        if len(joining) < JOIN_SHARE * decoding:
            return []
        self._joining[name] = []
        return joining

    def _work(self, name: str, joining: Sequence[GenerationRequest]) -> tuple[int, list[Answer]]:
        """On one host: how many rows go on together, and the answers that are finished."""
        batch = self._batches[name]
        batch.admit(joining)
        return len(batch), batch.decode(STEPS)

    # -- stepping --------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take in what was stepped while hosts were decoding, then step who has all answers."""
        begun = time.perf_counter()
        busy = any(len(batch) for batch in self._batches.values()) or any(self._joining.values())
        stepped = [p for p in self._playing.values() if p.stepping]
        for playing in self._playing.values():
            if not playing.stepping and len(playing.answers) == playing.asked:
                joints = joints_of(playing.live, playing.answers, self._policies, self._settings)
                playing.stepping = list(zip(joints, self._steps.submit(joints, self._settings.keep_cut), strict=True))
                # What is there at once need not wait; nor does anything where hosts would have nothing to do meanwhile.
                if self._steps.immediate or not busy:
                    stepped.append(playing)
        for playing in stepped:
            self._take_in(playing)
        self._cost.reward_seconds += time.perf_counter() - begun

    def _take_in(self, playing: _Playing) -> None:
        """Record an episode's joint actions, and ask what comes next or let it go."""
        children = [played(joint, future.result(), self._settings) for joint, future in playing.stepping]
        following = [child for child in children if child is not None]
        done, playing.stepping, playing.live = playing.answers, [], following
        needed = {r.before for r in self._ask(playing)} if following else set()
        if not following:
            del self._playing[playing.episode.id]
        for host in self._hosts.values():
            host.forget([key for key in done if key not in needed])


def _episode_of(request: GenerationRequest) -> str:
    episode, *_ = request.key  # type: ignore[misc]
    return episode
