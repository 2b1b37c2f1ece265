"""An episode as one JSON object for `episodes.jsonl`."""

from __future__ import annotations

from typing import Any

from collm.types import Episode


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
                "dropped_turns": turn.dropped_turns,
            }
        actions.append(
            {
                "turn": tr.turn,
                **({} if tr.parent == (index - 1 if index else None) and not tr.picks else {"parent": tr.parent, "picks": tr.picks}),
                **({"greedy": True} if tr.greedy else {}),
                "agents": agents,
                "global_info": tr.info.text,
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
