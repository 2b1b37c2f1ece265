"""Makes the built-in models tiny-a and tiny-b: tokenizer, imitation of scripted StrBuild builders, quality check.

    PYTHONPATH=src python scripts/make_tiny_models.py --out src/collm/models/tiny

takes about twenty minutes on two CPU cores (one process per model, one thread each). With the same seed, machine and
library versions it writes the same weights. `--check` only samples from the models in `--out` and prints the figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
from pathlib import Path

import torch
from tiny_models.demos import Example, demonstrations, encode, texts_of
from tiny_models.generic import generic_texts
from tiny_models.sample import Player, play
from tiny_models.specs import SPECS, TinySpec
from tiny_models.tokenizer import train_tokenizer
from tiny_models.train import Schedule, train
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3ForCausalLM

from collm.config.tasks import StrBuildTask

SHORT_SHARE = 0.4
CAREFUL_SHARE = 0.45
TOKENIZER_EPISODES = 1500
TOKENIZER_GENERIC_TEXTS = 600
CHECK_STRINGS = ("ICML", "CLIM", "LLM", "WAVE", "QUIZ", "HOUSE")
CHECK_EPISODES_PER_STRING = 12


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
    model.generation_config = GenerationConfig(
        bos_token_id=bos, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    model.save_pretrained(out / spec.name)
    tokenizer.save_pretrained(out / spec.name)
    for file in (out / spec.name).iterdir():
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


def check(out: Path, seed: int) -> dict[str, object]:
    """Figures of the untrained team tiny-a + tiny-b at temperature 1, 4 turns, history full."""
    torch.manual_seed(seed)
    players = [Player(AutoModelForCausalLM.from_pretrained(out / name).eval(), AutoTokenizer.from_pretrained(out / name)) for name in SPECS]
    figures: dict[str, object] = {"seed": seed, "others": list(CHECK_STRINGS[2:]), "episodes_per_string": CHECK_EPISODES_PER_STRING}
    for label, strings in {"ICML": CHECK_STRINGS[:1], "CLIM": CHECK_STRINGS[1:2], "others": CHECK_STRINGS[2:]}.items():
        figures[label] = play(players, [s for s in strings for _ in range(CHECK_EPISODES_PER_STRING)], StrBuildTask())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/collm/models/tiny"), help="folder that receives tiny-a and tiny-b")
    parser.add_argument("--steps", type=int, default=1200, help="optimizer steps of the first stage")
    parser.add_argument("--refine-steps", type=int, default=2000, help="optimizer steps of the second stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", choices=[*SPECS, "all"], default="all")
    parser.add_argument("--check", action="store_true", help="train nothing; sample from the models in --out and print the figures")
    args = parser.parse_args()
    if args.check:
        print(json.dumps(check(args.out, args.seed)))
        return
    chosen = list(SPECS) if args.model == "all" else [args.model]
    workers = [
        multiprocessing.get_context("spawn").Process(target=make, args=(SPECS[n], args.out, args.steps, args.refine_steps, args.seed))
        for n in chosen
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [name for name, worker in zip(chosen, workers, strict=True) if worker.exitcode]
    if failed:
        raise SystemExit(f"training failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
