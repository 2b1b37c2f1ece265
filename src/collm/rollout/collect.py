"""Decentralized execution: all live nodes of all rollouts in lockstep, one generate call per host and turn.

Every agent acts on its own history only. A rollout is a chain of joint actions, or a K-ary tree of them (method.md section
3); the nodes of one depth are answered together across episodes. Branches that end leave the batch; hosts work at the
same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from collm.envs.base import ConcurrentSteps, TextEnv
from collm.models.generation import Generation, GenerationRequest
from collm.models.host import Host
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.rollout.branch import Branch, EpisodePlan, Joint, Outcome, RolloutSettings, act, fork, open_root, record
from collm.types import Episode, Turn

Answers = dict[Hashable, tuple[GenerationRequest, Generation]]
"""By (episode, agent, node, sample)."""
GREEDY = -1
"""The sample index of a node's greedy response."""
STEP_THREADS = 32
"""Environments that wait for something outside this process and are stepped at the same time."""


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


Answerer = Callable[[Sequence[Branch], Mapping[str, Policy], RolloutSettings, Executor, RolloutCost], Answers]
"""Has every agent answer at every live node."""


def collect(
    plans: Sequence[EpisodePlan],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    settings: RolloutSettings,
    executor: Executor,
    on_turn: Callable[[], None],
    after_turn: Callable[[Sequence[Episode]], None] | None = None,
    answer: Answerer | None = None,
) -> tuple[list[Episode], RolloutCost]:
    """Play the planned episodes and return them in order of the plans.

    `on_turn` is called between turns and may raise to stop the rollout; `after_turn` gets the batch's episodes after
    each turn, to learn from them while they are being played. `answer` may let agents hear one another within a turn; by
    default they are `decentralized`. Raises EnvContractError for an environment that breaks its contract and
    ContextOverflowError for a prompt that does not fit; both name the episode.
    """
    cost = RolloutCost()
    episodes: list[Episode] = []
    for start in range(0, len(plans), settings.in_flight):
        live = [open_root(plan, make_env(), policies, settings) for plan in plans[start : start + settings.in_flight]]
        batch = [branch.episode for branch in live]
        stale: list[Hashable] = []
        while live:
            on_turn()
            answers = (answer or decentralized)(live, policies, settings, executor, cost)
            live = _play(live, answers, policies, settings, cost)
            for host in _hosts(policies):
                host.forget(stale)
            stale = list(answers)
            if after_turn is not None:
                after_turn(batch)
        for host in _hosts(policies):
            host.forget(stale)
        episodes += batch
    return episodes, cost


def decentralized(
    live: Sequence[Branch], policies: Mapping[str, Policy], settings: RolloutSettings, executor: Executor, cost: RolloutCost
) -> Answers:
    """Every agent answers at every live node from its own history, all at once."""
    requests: list[GenerationRequest] = []
    for branch in live:
        samples = [GREEDY] if branch.greedy else [*range(settings.tree.samples), *([GREEDY] if settings.tree.greedy_baseline else [])]
        requests += [request_of(branch, name, k, settings) for name in policies for k in samples]
    return ask(requests, policies, executor, cost)


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
    hosts = {host.name: host for host in _hosts(policies)}
    running = {name: executor.submit(hosts[name].generate, batch) for name, batch in batches.items()}
    answers: Answers = {}
    for name, future in running.items():
        for request, generation in zip(batches[name], future.result(), strict=True):
            answers[request.key] = (request, generation)
            cost.generated_tokens += len(generation.response_ids)
            cost.context_tokens += len(request.context_ids)
    cost.inference_calls += len(answers)
    cost.peak_rows = max(cost.peak_rows, *(len(batch) for batch in batches.values()))
    cost.generate_seconds += time.perf_counter() - begun
    return answers


def _before(branch: Branch, agent: str) -> Hashable:
    """The conversation that this node's continues: the response with which the agent came here."""
    if branch.node < 0:
        return None
    came = branch.episode.transitions[branch.node]
    return (branch.episode.id, agent, came.node, GREEDY if came.greedy else came.pick(agent))


def _play(
    live: Sequence[Branch], answers: Answers, policies: Mapping[str, Policy], settings: RolloutSettings, cost: RolloutCost
) -> list[Branch]:
    """Step every joint action of every live node; the nodes they lead to."""
    begun = time.perf_counter()
    joints: list[Joint] = []
    for branch in live:
        chosen = branch.joint_actions(list(policies), settings.tree)
        played = _turns(branch, chosen, answers, policies)
        for (picks, greedy), (env, histories), turns in zip(chosen, fork(branch, len(chosen)), played, strict=True):
            joints.append(Joint(branch, env, histories, turns, picks, greedy))
    following: list[Branch] = []
    for joint, outcome in zip(joints, _outcomes(joints, settings.keep_cut), strict=True):
        child = record(joint, outcome, settings)
        if child is None:
            joint.env.close()
        else:
            following.append(child)
    cost.reward_seconds += time.perf_counter() - begun
    return following


def _outcomes(joints: Sequence[Joint], keep_cut: bool) -> list[Outcome]:
    """Step the environments one after the other, or at the same time where they say that they wait for something outside."""
    if not (isinstance(joints[0].env, ConcurrentSteps) and joints[0].env.concurrent_steps):
        return [act(joint, keep_cut) for joint in joints]
    with ThreadPoolExecutor(STEP_THREADS, thread_name_prefix="env-step") as pool:
        return list(pool.map(lambda joint: act(joint, keep_cut), joints))


def _turns(
    branch: Branch, joint: Sequence[tuple[dict[str, int], bool]], answers: Answers, policies: Mapping[str, Policy]
) -> list[dict[str, Turn]]:
    """Every agent's part of each joint action; joint actions that share a response share its record."""
    made: dict[tuple[str, int], Turn] = {}
    played: list[dict[str, Turn]] = []
    for picks, greedy in joint:
        chosen = {name: GREEDY if greedy else picks.get(name, 0) for name in policies}
        for name, k in chosen.items():
            if (name, k) not in made:
                made[name, k] = _turn(branch, name, policies[name], *answers[branch.episode.id, name, branch.node, k])
        played.append({name: made[name, k] for name, k in chosen.items()})
    return played


def _turn(branch: Branch, name: str, policy: Policy, request: GenerationRequest, generation: Generation) -> Turn:
    return Turn(
        observation=branch.upcoming.observations[name],
        context_ids=request.context_ids,
        response_ids=generation.response_ids,
        text=policy.chat.text(generation.response_ids),
        stop=generation.stop,
        behaviour_logprob=generation.logprob,
        kept_mass=generation.kept_mass,
        dropped_turns=branch.histories[name].dropped,
    )


def _hosts(policies: Mapping[str, Policy]) -> list[Host]:
    return list({p.host.name: p.host for p in policies.values()}.values())
