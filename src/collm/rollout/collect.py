"""Decentralized execution: many episodes in lockstep, one generate call per host and turn.

Every agent acts on its own history only. Episodes that end leave the batch; hosts work at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from collm.envs.base import TextEnv
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_metrics
from collm.errors import CollmError
from collm.models.chat import TokenHistory
from collm.models.generation import Generation, GenerationRequest
from collm.models.host import Host
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.types import Episode, GlobalInfo, JointTransition, TaskRow, Turn


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """Which episode to play: its id, task row and seed."""

    id: str
    task: TaskRow | None
    seed: int


@dataclass(slots=True)
class RolloutCost:
    """What a rollout took: seconds by phase, inference calls (one per agent and turn) and generated tokens."""

    generate_seconds: float = 0.0
    reward_seconds: float = 0.0
    inference_calls: int = 0
    generated_tokens: int = 0
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How to play: history mode, context window C, greedy or sampled, and the counters stamped on episodes."""

    history: Literal["full", "last"]
    context_window: int
    greedy: bool
    update: int
    policy_version: int
    in_flight: int


@dataclass(slots=True)
class _Live:
    plan: EpisodePlan
    env: TextEnv
    observations: dict[str, str]
    info: GlobalInfo
    histories: dict[str, TokenHistory]
    transitions: list[JointTransition] = field(default_factory=list)
    over: bool = False


def collect(
    plans: Sequence[EpisodePlan],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    settings: RolloutSettings,
    executor: Executor,
    on_turn: Callable[[], None],
) -> tuple[list[Episode], RolloutCost]:
    """Play the planned episodes and return them in order of the plans.

    `on_turn` is called between turns and may raise to stop the rollout. Raises EnvContractError for an environment
    that breaks its contract and ContextOverflowError for a prompt that does not fit; both name the episode.
    """
    cost = RolloutCost()
    episodes: list[Episode] = []
    for start in range(0, len(plans), settings.in_flight):
        batch = [_open(plan, make_env(), policies, settings) for plan in plans[start : start + settings.in_flight]]
        while live := [e for e in batch if not e.over]:
            on_turn()
            _play_turn(live, policies, settings, executor, cost)
            for e in live:
                if e.over:
                    _close(e, policies)
        episodes += [Episode(e.plan.id, e.plan.task, e.plan.seed, settings.update, settings.policy_version, e.transitions) for e in batch]
    return episodes, cost


def _close(episode: _Live, policies: Mapping[str, Policy]) -> None:
    """Let go of what an ended episode holds: its caches and its environment."""
    for name, policy in policies.items():
        policy.host.forget([(episode.plan.id, name)])
    episode.env.close()


def _open(plan: EpisodePlan, env: TextEnv, policies: Mapping[str, Policy], settings: RolloutSettings) -> _Live:
    with _placed(f"episode {plan.id}", "reset"):
        observations, _ = env.reset(seed=plan.seed % 2**31, options={"task": plan.task})
        observations = check_observations(observations, list(policies))
        info = global_info(env.state())
    histories = {
        name: TokenHistory(f"{name}, episode {plan.id}", p.chat, settings.history, settings.context_window, p.config.max_new_tokens)
        for name, p in policies.items()
    }
    return _Live(plan, env, observations, info, histories)


def _play_turn(
    live: Sequence[_Live], policies: Mapping[str, Policy], settings: RolloutSettings, executor: Executor, cost: RolloutCost
) -> None:
    begun = time.perf_counter()
    requests: dict[str, dict[tuple[str, str], GenerationRequest]] = {}
    for episode in live:
        turn = len(episode.transitions)
        for name, policy in policies.items():
            key = (episode.plan.id, name)
            context = episode.histories[name].observe(episode.observations[name])
            seed = derive_seed(episode.plan.seed, "turn", turn, name)
            requests.setdefault(policy.host.name, {})[key] = GenerationRequest(name, key, context, seed, settings.greedy)
    hosts = {host.name: host for host in _hosts(policies)}
    running = {name: executor.submit(hosts[name].generate, list(batch.values())) for name, batch in requests.items()}
    answers: dict[tuple[str, str], tuple[GenerationRequest, Generation]] = {}
    for name, future in running.items():
        for (key, request), generation in zip(requests[name].items(), future.result(), strict=True):
            answers[key] = (request, generation)
    cost.generate_seconds += time.perf_counter() - begun
    begun = time.perf_counter()
    for episode in live:
        turns = {name: _turn(episode, name, policies[name], *answers[episode.plan.id, name]) for name in policies}
        _step(episode, turns)
        cost.inference_calls += len(turns)
        cost.generated_tokens += sum(len(t.response_ids) for t in turns.values())
        cost.context_tokens += sum(len(t.context_ids) for t in turns.values())
    cost.reward_seconds += time.perf_counter() - begun


def _turn(episode: _Live, name: str, policy: Policy, request: GenerationRequest, generation: Generation) -> Turn:
    history = episode.histories[name]
    history.respond(generation.response_ids)
    return Turn(
        observation=episode.observations[name],
        context_ids=request.context_ids,
        response_ids=generation.response_ids,
        text=policy.chat.text(generation.response_ids),
        stop=generation.stop,
        behaviour_logprob=generation.logprob,
        kept_mass=generation.kept_mass,
        dropped_turns=history.dropped,
    )


def _step(episode: _Live, turns: dict[str, Turn]) -> None:
    with _placed(f"episode {episode.plan.id}, turn {len(episode.transitions)}", "step"):
        observations, rewards, terminations, truncations, infos = episode.env.step({name: t.text for name, t in turns.items()})
        terminated, truncated = joint_flag("terminations", terminations), joint_flag("truncations", truncations)
        transition = JointTransition(
            turn=len(episode.transitions),
            turns=turns,
            info=episode.info,
            reward=shared_reward(rewards),
            terminated=terminated,
            truncated=truncated,
            metrics=step_metrics(infos),
        )
        episode.over = terminated or truncated
        if not episode.over:
            episode.observations = check_observations(observations, list(turns))
            episode.info = global_info(episode.env.state())
    episode.transitions.append(transition)


@contextmanager
def _placed(where: str, call: str) -> Iterator[None]:
    """Errors from the environment say where in the run they happened."""
    try:
        yield
    except CollmError as error:
        error.add_place(where)
        raise
    except Exception as error:
        # The user's own error, with its own traceback.
        error.add_note(f"raised by the environment's {call}() in {where}")
        raise


def _hosts(policies: Mapping[str, Policy]) -> list[Host]:
    return list({p.host.name: p.host for p in policies.values()}.values())


def describe(episode: Episode) -> dict[str, Any]:
    """An episode as one JSON object for `episodes.jsonl`: token ids as sampled, each turn's own prompt ids only."""
    turns: list[dict[str, Any]] = []
    before: dict[str, tuple[int, ...]] = {}
    for tr in episode.transitions:
        agents: dict[str, Any] = {}
        for name, turn in tr.turns.items():
            past = before.get(name, ())
            continues = bool(past) and turn.context_ids[: len(past)] == past
            agents[name] = {
                "observation": turn.observation,
                "text": turn.text,
                "continues_history": continues,
                "prompt_ids": turn.context_ids[len(past) :] if continues else turn.context_ids,
                "response_ids": turn.response_ids,
                "stop": turn.stop.value,
                "behaviour_logprob": turn.behaviour_logprob,
                "dropped_turns": turn.dropped_turns,
            }
            before[name] = turn.context_ids + turn.response_ids
        turns.append(
            {
                "turn": tr.turn,
                "agents": agents,
                "global_info": tr.info.text,
                "reward": tr.reward,
                "terminated": tr.terminated,
                "truncated": tr.truncated,
                "metrics": tr.metrics,
            }
        )
    return {"id": episode.id, "update": episode.update, "task": episode.task, "seed": episode.seed, "turns": turns}
