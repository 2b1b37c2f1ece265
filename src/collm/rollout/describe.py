"""An episode as one JSON object for `episodes.jsonl`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from collm.types import Episode, GlobalInfo, JointTransition, StopReason, Turn


def describe(episode: Episode) -> dict[str, Any]:
    """Token ids as sampled, each turn's own prompt ids only; `parent` places a joint action in its rollout tree.

    `values` and `advantages` are there once an update has learned from the joint action.
    """
    actions: list[dict[str, Any]] = []
    for index, tr in enumerate(episode.transitions):
        before = episode.transitions[tr.parent].turns if tr.parent is not None else {}
        agents: dict[str, Any] = {}
        for name, turn in tr.turns.items():
            past = before[name].context_ids + before[name].response_ids if name in before else ()
            continues = bool(past) and turn.context_ids[: len(past)] == past
            agents[name] = {
                "observation": turn.observation,
                "text": turn.text,
                "continues_history": continues,
                "prompt_ids": turn.context_ids[len(past) :] if continues else turn.context_ids,
                "response_ids": turn.response_ids,
                "stop": turn.stop.value,
                "behaviour_logprob": turn.behaviour_logprob,
                "kept_mass": turn.kept_mass,
                "dropped_turns": turn.dropped_turns,
            }
        actions.append(
            {
                "turn": tr.turn,
                **({} if tr.parent == (index - 1 if index else None) and not tr.picks else {"parent": tr.parent, "picks": tr.picks}),
                **({"greedy": True} if tr.greedy else {}),
                "agents": agents,
                "global_info": tr.info.text,
                "features": tr.info.features.tolist(),
                "reward": tr.reward,
                "terminated": tr.terminated,
                "truncated": tr.truncated,
                "metrics": tr.metrics,
                **({"values": tr.values} if tr.values else {}),
                **({"advantages": tr.advantages} if tr.advantages else {}),
                **({"details": tr.details} if tr.details else {}),
            }
        )
    return {"id": episode.id, "update": episode.update, "task": episode.task, "seed": episode.seed, "turns": actions}


def restore(row: Mapping[str, Any]) -> Episode:
    """The episode of a row, without what only training needs (what stands upcoming, old log-probabilities, versions).

    Raises KeyError, TypeError, ValueError or IndexError for a row that `describe` did not write.
    """
    episode = Episode(row["id"], row["task"], row["seed"], row["update"], [])
    for index, action in enumerate(row["turns"]):
        parent = action["parent"] if "parent" in action else (index - 1 if index else None)
        before = episode.transitions[parent].turns if parent is not None else {}
        episode.transitions.append(
            JointTransition(
                turn=action["turn"],
                turns={name: _turn(part, before.get(name)) for name, part in action["agents"].items()},
                info=GlobalInfo(action["global_info"], np.array(action["features"], dtype=np.float32)),
                reward=action["reward"],
                terminated=action["terminated"],
                truncated=action["truncated"],
                metrics=action["metrics"],
                details=action.get("details", {}),
                parent=parent,
                picks=action.get("picks", {}),
                greedy=action.get("greedy", False),
                values=action.get("values", {}),
                advantages=action.get("advantages", {}),
            )
        )
    return episode


def _turn(part: Mapping[str, Any], before: Turn | None) -> Turn:
    past: Sequence[int] = before.context_ids + before.response_ids if before is not None and part["continues_history"] else ()
    return Turn(
        observation=part["observation"],
        context_ids=(*past, *part["prompt_ids"]),
        response_ids=tuple(part["response_ids"]),
        text=part["text"],
        stop=StopReason(part["stop"]),
        behaviour_logprob=part["behaviour_logprob"],
        kept_mass=part["kept_mass"],
        dropped_turns=part["dropped_turns"],
    )
