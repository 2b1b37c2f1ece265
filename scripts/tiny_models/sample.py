"""Plays StrBuild with two tiny models by plain `transformers` generation, to see whether they act as they should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from collm.config.tasks import StrBuildTask
from collm.envs.strbuild.env import StrBuildEnv


@dataclass
class Player:
    """A model with its tokenizer and, per episode, its dialogue."""

    model: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerBase
    dialogues: list[list[dict[str, str]]] = field(default_factory=list)


@dataclass
class Tally:
    """Sums over all responses."""

    responses: int = 0
    ended: int = 0
    tokens: int = 0
    lines: int = 0
    accepted: float = 0.0


@torch.no_grad()
def respond(player: Player, rows: Sequence[int], max_new_tokens: int, tally: Tally) -> list[str]:
    """Samples the next answer (temperature 1) of the dialogues `rows` in one left-padded batch."""
    dialogues = [player.dialogues[i] for i in rows]
    prompts = [player.tokenizer.apply_chat_template(d, tokenize=False, add_generation_prompt=True) for d in dialogues]
    inputs = player.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    output = player.model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
    )
    texts = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        eos = player.tokenizer.eos_token_id
        ended = eos in row
        answer = row[: row.index(eos)] if ended else row
        texts.append(player.tokenizer.decode(answer))
        tally.responses += 1
        tally.ended += ended
        tally.tokens += len(answer) + ended
    return texts


def play(players: Sequence[Player], strings: Sequence[str], task: StrBuildTask, max_new_tokens: int = 256) -> dict[str, object]:
    """Plays one episode per string (history full) and returns the means per turn and the tallies."""
    envs = [StrBuildEnv(task, n_agents=len(players), history="full") for _ in strings]
    names = envs[0].possible_agents
    observations = [env.reset(seed=i, options={"task": {"string": s}})[0] for i, (env, s) in enumerate(zip(envs, strings, strict=True))]
    for player in players:
        player.dialogues = [[] for _ in strings]
    tally, live, turns = Tally(), list(range(len(strings))), []
    while live:
        answers: dict[str, list[str]] = {}
        for name, player in zip(names, players, strict=True):
            for i in live:
                player.dialogues[i].append({"role": "user", "content": observations[i][name]})
            answers[name] = respond(player, live, max_new_tokens, tally)
            for i, text in zip(live, answers[name], strict=True):
                player.dialogues[i].append({"role": "assistant", "content": text})
                tally.lines += len(text.splitlines())
        scores, still = [], []
        for k, i in enumerate(live):
            observations[i], rewards, ended, cut, infos = envs[i].step({name: answers[name][k] for name in names})
            scores.append({"score": rewards[names[0]], **infos[names[0]]["metrics"]})
            tally.accepted += scores[-1]["accepted_commands"]
            if not (ended[names[0]] or cut[names[0]]):
                still.append(i)
        turns.append({key: round(sum(s[key] for s in scores) / len(scores), 4) for key in scores[0]})
        live = still
    return {
        "turns": turns,
        "eos_share": round(tally.ended / tally.responses, 4),
        "response_tokens": round(tally.tokens / tally.responses, 1),
        "refused_lines": round(1 - tally.accepted / tally.lines, 4),
    }
