"""Trains one tiny model on tokenised demonstrations."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import Qwen3ForCausalLM

PROMPT_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and, per token, whether the model wrote it (a response token or the EOS that closes it)."""

    ids: tuple[int, ...]
    written: tuple[bool, ...]


@dataclass(frozen=True)
class Schedule:
    """Steps, tokens per step and the cosine learning rate."""

    steps: int
    batch_tokens: int = 3072
    peak_lr: float = 2e-3
    final_lr: float = 5e-5
    warmup: int = 50

    def lr(self, step: int) -> float:
        if step < self.warmup:
            return self.peak_lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final_lr + 0.5 * (self.peak_lr - self.final_lr) * (1 + math.cos(math.pi * progress))


def batches(data: Sequence[Example], tokens: int, rng: random.Random) -> Iterator[list[Example]]:
    """One pass over the data in random order, in batches of similar lengths that fit the token budget."""
    order = sorted(data, key=lambda s: len(s.ids) + rng.random())
    packed: list[list[Example]] = [[]]
    for sequence in order:
        if packed[-1] and (len(packed[-1]) + 1) * len(sequence.ids) > tokens:
            packed.append([])
        packed[-1].append(sequence)
    rng.shuffle(packed)
    yield from packed


def loss_of(model: Qwen3ForCausalLM, batch: list[Example], pad: int) -> tuple[torch.Tensor, float]:
    """Weighted cross-entropy of the batch, and the plain mean over written tokens for the log."""
    length = max(len(s.ids) for s in batch)
    ids_BT = torch.tensor([[*s.ids, *[pad] * (length - len(s.ids))] for s in batch])
    weight_BT = torch.tensor([[*(1.0 if w else PROMPT_WEIGHT for w in s.written), *[0.0] * (length - len(s.ids))] for s in batch])
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    nll = F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    weight = weight_BT[:, 1:].flatten()
    written = weight == 1.0
    return (nll * weight).sum() / weight.sum(), nll[written].mean().item()


def train(model: Qwen3ForCausalLM, phases: Sequence[tuple[float, Sequence[Example]]], schedule: Schedule, seed: int, pad: int) -> None:
    """AdamW over the phases (share of the steps, data): short dialogues first, so that copying is learned cheaply."""
    rng = random.Random(seed)
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98))
    start, tokens, shown = time.perf_counter(), 0, []
    for step, batch in enumerate(_stream(phases, schedule, rng)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr(step)
        loss, written_nll = loss_of(model, batch, pad)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens += sum(len(s.ids) for s in batch)
        shown.append(written_nll)
        if (step + 1) % 50 == 0 or step + 1 == schedule.steps:
            seconds = time.perf_counter() - start
            print(
                f"step {step + 1}/{schedule.steps} response nll {sum(shown) / len(shown):.4f} "
                f"{tokens / seconds:.0f} tokens/s {seconds:.0f} s",
                flush=True,
            )
            shown = []


def _stream(phases: Sequence[tuple[float, Sequence[Example]]], schedule: Schedule, rng: random.Random) -> Iterator[list[Example]]:
    """Exactly `schedule.steps` batches, each phase repeating its data as often as its share of the steps needs."""
    done = 0
    reached = 0.0
    for share, data in phases:
        reached += share
        until = round(schedule.steps * reached)
        while done < until:
            for batch in batches(data, schedule.batch_tokens, rng):
                if done == until:
                    break
                done += 1
                yield batch
