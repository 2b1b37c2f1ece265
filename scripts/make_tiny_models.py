"""Makes the built-in models tiny-a and tiny-b by imitation of scripted agents.

    PYTHONPATH=src python scripts/make_tiny_models.py --out src/collm/models/tiny

takes about an hour on two CPU cores (one process per model, one thread each). Stage `strbuild` trains tokenizer and model on
StrBuild alone, stage `extend` gives both more vocabulary and teaches them all five tasks. With the same seed, machine and
library versions it writes the same weights. How they act: `collm eval TASK --protocol parallel`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tiny_models.demos import Example, demonstrations, encode, texts_of
from tiny_models.extend import extend_model, extend_tokenizer
from tiny_models.generic import generic_texts
from tiny_models.mixture import mixed_examples, mixed_texts
from tiny_models.specs import SPECS, TinySpec
from tiny_models.tokenizer import train_tokenizer
from tiny_models.train import Schedule, train
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

EXTEND_CHARACTERS = 4_000_000
EXTEND_FRESH = 0.5
"""Of the extend stage's tokens; the rest are second passes over the same demonstrations."""
SHORT_SHARE = 0.4
CAREFUL_SHARE = 0.45
TOKENIZER_EPISODES = 1500
TOKENIZER_GENERIC_TEXTS = 600


def make(spec: TinySpec, out: Path, steps: int, refine_steps: int, seed: int) -> None:
    """Trains one model and saves it as a Hugging Face folder `out/<name>`."""
    torch.set_num_threads(1)
    seed = seed * 1000 + list(SPECS).index(spec.name)
    corpus = texts_of(demonstrations(seed, TOKENIZER_EPISODES, short=False))
    tokenizer = train_tokenizer(spec, [*corpus, *generic_texts(random.Random(seed), TOKENIZER_GENERIC_TEXTS)])
    torch.manual_seed(seed)
    bos = None if spec.bos is None else tokenizer.bos_token_id
    config = spec.config(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, bos)
    model = Qwen3ForCausalLM(config)
    print(f"{spec.name}: {sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    imitate(model, tokenizer, steps, seed)
    refine(model, tokenizer, refine_steps, seed)
    save(model, tokenizer, out / spec.name)


def extend(spec: TinySpec, out: Path, steps: int, seed: int) -> None:
    """Gives the model in `out/<name>` the vocabulary of all five tasks and trains it on their demonstrations."""
    torch.set_num_threads(1)
    seed = seed * 1000 + list(SPECS).index(spec.name)
    torch.manual_seed(seed)
    before = AutoTokenizer.from_pretrained(out / spec.name)
    model = Qwen3ForCausalLM.from_pretrained(out / spec.name)
    tokenizer = extend_tokenizer(before, mixed_texts(seed + 500, EXTEND_CHARACTERS), spec.extended_vocab_size)
    extend_model(model, before, tokenizer)
    print(f"{spec.name}: {sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens", flush=True)
    schedule = Schedule(steps, batch_tokens=3072, peak_lr=1.5e-3)
    tokens = round(steps * schedule.batch_tokens * EXTEND_FRESH)
    phases = [
        (CAREFUL_SHARE, mixed_examples(tokenizer, seed * 100 + 600, round(tokens * CAREFUL_SHARE), careful=0.7)),
        (1 - CAREFUL_SHARE, mixed_examples(tokenizer, seed * 100 + 700, round(tokens * (1 - CAREFUL_SHARE)), careful=0.1)),
    ]
    train(model, phases, schedule, seed + 2, tokenizer.pad_token_id)
    save(model, tokenizer, out / spec.name)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes an ordinary Hugging Face folder."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def imitate(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, steps: int, seed: int) -> None:
    """First stage: noisy demonstrations, short dialogues before long ones."""
    schedule = Schedule(steps)
    short_tokens = round(steps * SHORT_SHARE) * schedule.batch_tokens
    phases = [
        (SHORT_SHARE, _examples(tokenizer, seed + 100, short_tokens, short=True)),
        (1 - SHORT_SHARE, _examples(tokenizer, seed + 200, steps * schedule.batch_tokens - short_tokens, short=False)),
    ]
    train(model, phases, schedule, seed, tokenizer.pad_token_id)


def refine(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, steps: int, seed: int) -> None:
    """Second stage: faultless answers until coordinates are copied rightly, then noisy ones again with a few faultless ones."""
    schedule = Schedule(steps, batch_tokens=1536, peak_lr=1.5e-3)
    careful_tokens = round(steps * CAREFUL_SHARE) * schedule.batch_tokens
    phases = [
        (CAREFUL_SHARE, _examples(tokenizer, seed + 300, careful_tokens, short=True, careful=1.0)),
        (1 - CAREFUL_SHARE, _examples(tokenizer, seed + 400, steps * schedule.batch_tokens - careful_tokens, short=False, careful=0.1)),
    ]
    train(model, phases, schedule, seed + 1, tokenizer.pad_token_id)


def _examples(tokenizer: PreTrainedTokenizerBase, seed: int, tokens: int, short: bool, careful: float = 0.0) -> list[Example]:
    """Demonstrations of about `tokens` tokens in all."""
    examples: list[Example] = []
    while tokens > 0:
        fresh = [encode(dialogue, tokenizer) for dialogue in demonstrations(seed + 1000 * len(examples), 200, short, careful)]
        tokens -= sum(len(example.ids) for example in fresh)
        examples += fresh
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/collm/models/tiny"), help="folder that receives tiny-a and tiny-b")
    parser.add_argument("--steps", type=int, default=1200, help="optimizer steps of the first stage")
    parser.add_argument("--refine-steps", type=int, default=2000, help="optimizer steps of the second stage")
    parser.add_argument("--extend-steps", type=int, default=4000, help="optimizer steps of the stage that adds the other tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", choices=[*SPECS, "all"], default="all")
    parser.add_argument("--stage", choices=["strbuild", "extend", "all"], default="all")
    args = parser.parse_args()
    chosen = [SPECS[name] for name in (SPECS if args.model == "all" else [args.model])]
    if args.stage != "extend":
        side_by_side(make, [(spec, args.out, args.steps, args.refine_steps, args.seed) for spec in chosen])
    if args.stage != "strbuild":
        side_by_side(extend, [(spec, args.out, args.extend_steps, args.seed) for spec in chosen])


def side_by_side(job: Callable[..., None], arguments: Sequence[tuple[object, ...]]) -> None:
    """Runs the job once per tuple, each in a process of its own. Raises SystemExit where one fails."""
    workers = [multiprocessing.get_context("spawn").Process(target=job, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"{job.__name__} failed")


if __name__ == "__main__":
    main()
