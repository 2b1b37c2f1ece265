"""From answers to joint actions: who plays what with whom at the nodes of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collm.models.generation import Generation, GenerationRequest
from collm.models.team import Policy
from collm.rollout.asking import GREEDY, Answers
from collm.rollout.branch import Branch, Joint, RolloutSettings, fork, record
from collm.rollout.outcome import Outcome
from collm.types import Turn


def joints_of(live: Sequence[Branch], answers: Answers, policies: Mapping[str, Policy], settings: RolloutSettings) -> list[Joint]:
    """Every joint action of every live node, each on an environment and histories of its own."""
    joints: list[Joint] = []
    for branch in live:
        chosen = branch.joint_actions(list(policies), settings.tree)
        played = _turns(branch, chosen, answers, policies)
        for (picks, greedy), (env, histories), turns in zip(chosen, fork(branch, len(chosen)), played, strict=True):
            joints.append(Joint(branch, env, histories, turns, picks, greedy))
    return joints


def played(joint: Joint, outcome: Outcome, settings: RolloutSettings) -> Branch | None:
    """Record a joint action with what came of it; the node it leads to, or None where the branch ends and its environment is closed."""
    child = record(joint, outcome, settings)
    if child is None:
        outcome.env.close()
    return child


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
