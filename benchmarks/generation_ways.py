"""Ways to generate for many rows at once: collm's live batch beside what transformers offers.

    python benchmarks/generation_ways.py [--rounds N] [--out FILE]

Sixteen prompts of different lengths, 64 sampled tokens each, on a random Qwen3 of about a million parameters: `generate` with its
dynamic cache and with its static cache, `generate_batch` (continuous batching over paged attention), and `Host.generate`. All
alternate in one process. Writes a JSON file; the last line of output is the same object.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_tools import Shape, machine, random_model, write_result
from transformers import GenerationConfig

from collm.config.schema import OptimizerConfig
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.loading import LoadedModel
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule

SHAPE = Shape(259, 128, 4, 4, 2, 32, 384)
ROWS, NEW = 16, 64
HERE = Path(__file__).parent


def prompts() -> list[list[int]]:
    """Random ids, 200 to 305 of them."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, 250, (200 + 7 * i,), generator=generator).tolist() for i in range(ROWS)]


def ours(loaded: LoadedModel) -> Callable[[], int]:
    """`Host.generate`, every conversation a new one."""
    host = Host("h", loaded, torch.device("cpu"), 4096, False)
    host.add_policy("p", DecodeSpec(SupportRule(), NEW, frozenset()), OptimizerConfig(), None, 0)
    requests = [GenerationRequest("p", i, None, tuple(ids), i, greedy=False) for i, ids in enumerate(prompts())]

    def run() -> int:
        found = host.generate(requests)
        host.forget()
        return sum(len(g.response_ids) for g in found)

    return run


def theirs(loaded: LoadedModel, cache: str | None) -> Callable[[], int]:
    """`model.generate` on the left-padded batch."""
    rows = prompts()
    width = max(map(len, rows))
    ids_BT = torch.tensor([[257] * (width - len(r)) + r for r in rows])
    mask_BT = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    config = GenerationConfig(
        max_new_tokens=NEW, min_new_tokens=NEW, do_sample=True, top_k=0, eos_token_id=256, pad_token_id=257, cache_implementation=cache
    )

    def run() -> int:
        out = loaded.model.generate(ids_BT, attention_mask=mask_BT, generation_config=config)  # pyright: ignore[reportCallIssue]
        return out.shape[0] * (out.shape[1] - width)

    return run


def continuous(loaded: LoadedModel) -> Callable[[], int]:
    """`model.generate_batch`; no token ends a response."""
    config = GenerationConfig(max_new_tokens=NEW, do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=257)

    def run() -> int:
        out = loaded.model.generate_batch(inputs=prompts(), generation_config=config)  # pyright: ignore[reportCallIssue]
        return sum(len(answer.generated_tokens) for answer in out.values())

    return run


def measure(rounds: int) -> dict[str, Any]:
    """Median tokens per second of each way, and of ours over each."""
    # A model of its own each: some of them set its attention implementation.
    ways: dict[str, Callable[[], int]] = {
        "collm": ours(random_model(SHAPE)),
        "generate, dynamic cache": theirs(random_model(SHAPE), None),
        "generate, static cache": theirs(random_model(SHAPE), "static"),
        "generate_batch": continuous(random_model(SHAPE)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            tokens = run()
            seconds[name].append(time.perf_counter() - begun)
            if tokens != ROWS * NEW:
                raise RuntimeError(f"{name} made {tokens} tokens, not {ROWS * NEW}: the work was not equal")
    rate = {name: ROWS * NEW / statistics.median(times[1:]) for name, times in seconds.items()}
    return {"tokens_per_second": rate, "collm_over": {name: rate["collm"] / r for name, r in rate.items() if name != "collm"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; one more warms up")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "generation_ways.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    torch.manual_seed(0)
    about = machine()
    write_result({"rows": ROWS, "new_tokens": NEW, **measure(options.rounds)}, about, options.out)


if __name__ == "__main__":
    main()
