"""What collm costs beside the bare model: `python benchmarks/overhead.py [--rounds N] [--threads N] [--skip-run] [--out FILE]`.

Generation: `Host.generate` beside transformers' `model.generate`, equal prompts and equal numbers of sampled tokens.
Updates: `Host.accumulate_policy` beside a forward and backward pass over the same tokens written out in plain torch. Both
alternate in one process; ratios are medians over rounds. Then a training run of a few updates on StrBuild, and the share of
its wall time in which no model computes. Writes a JSON file; the last line of output is the same object.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from bench_tools import THIRTY_MILLION, Spent, alternate, machine, random_model, throughput_ratio, write_result
from run_share import measure_run
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from collm.algorithms.losses import PolicyGradientLoss
from collm.config.schema import OptimizerConfig
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.loading import LoadedModel, load_model
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample

HERE = Path(__file__).parent
GENERATION_TARGET = UPDATE_TARGET = 0.85
"""Of the bare model's throughput."""
RUN_TARGET = 0.05
"""Of a run's wall time, in environments and bookkeeping."""


@dataclass(frozen=True, slots=True)
class Work:
    """One batch: rows of a prompt and a response."""

    rows: int
    prompt: int
    response: int

    @property
    def tokens(self) -> int:
        return self.rows * (self.prompt + self.response)


def prompts_of(work: Work, vocabulary: int) -> list[tuple[int, ...]]:
    """Random prompts. The first tokens differ, so that no prefix can be shared: the bare model would not share it."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, vocabulary, (work.rows, work.prompt), generator=generator)
    ids[:, 0] = torch.arange(work.rows) + 2
    return [tuple(row) for row in ids.tolist()]


def host_of(loaded: LoadedModel, work: Work) -> Host:
    """A host with one fully tuned policy that never ends a response early; its token budget takes the work in one batch."""
    host = Host("bench", loaded, torch.device("cpu"), work.tokens, gradient_checkpointing=False)
    host.add_policy("agent_0", DecodeSpec(SupportRule(), work.response, frozenset()), OptimizerConfig(), None, 0)
    return host


# -- generation ----------------------------------------------------------------------------------------------------------


def generation_calls(host: Host, work: Work) -> dict[str, Callable[[], object]]:
    model = host.loaded.model
    prompts = prompts_of(work, model.config.vocab_size)
    requests = [GenerationRequest("agent_0", i, None, p, seed=i, greedy=False) for i, p in enumerate(prompts)]
    ids_BT = torch.tensor(prompts)
    plain = GenerationConfig(do_sample=True, top_k=0, top_p=1.0, temperature=1.0, max_new_tokens=work.response, pad_token_id=0)

    def ours() -> None:
        answers = host.generate(requests)
        host.forget()
        assert all(len(a.response_ids) == work.response for a in answers)

    def bare() -> None:
        out = cast("Any", model).generate(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=plain)
        assert out.shape == (work.rows, work.prompt + work.response)

    # A model without its own end of text: neither side stops before the limit.
    model.generation_config = plain
    return {"collm": ours, "bare": bare}


# -- updates -------------------------------------------------------------------------------------------------------------


def update_calls(host: Host, work: Work) -> dict[str, Callable[[], object]]:
    model = host.loaded.model
    prompts, responses = prompts_of(work, model.config.vocab_size), _responses(work, model.config.vocab_size)
    advantages = torch.linspace(-1, 1, work.rows)
    nan = (float("nan"),) * work.response
    samples = [
        PolicySample(p, r, {"advantage": float(a)}, f"row {i}", {"old_logprob": nan})
        for i, (p, r, a) in enumerate(zip(prompts, responses, advantages, strict=True))
    ]
    ids_BT = torch.tensor([p + r for p, r in zip(prompts, responses, strict=True)])

    def ours() -> None:
        host.accumulate_policy("agent_0", samples, PolicyGradientLoss())
        host.discard_gradients()

    def bare() -> None:
        bare_update(model, ids_BT, work.prompt, advantages)

    def naive() -> None:
        bare_update(model, ids_BT, work.prompt, advantages, all_logits=True)

    return {"collm": ours, "bare": bare, "bare_all_logits": naive}


def bare_update(model: PreTrainedModel, ids_BT: Tensor, prompt: int, advantage_B: Tensor, all_logits: bool = False) -> None:
    """Forward and backward pass of the policy gradient's loss, the gradient then dropped; with logits at all positions or as needed."""
    if all_logits:
        logits_BRV = model(input_ids=ids_BT, use_cache=False).logits[:, prompt - 1 : -1]
    else:
        hidden_BTD = cast("nn.Module", model.base_model)(input_ids=ids_BT, use_cache=False).last_hidden_state
        logits_BRV = cast("nn.Module", model.get_output_embeddings())(hidden_BTD[:, prompt - 1 : -1])
    logprob_BR = logits_BRV.log_softmax(-1).gather(-1, ids_BT[:, prompt:, None])[..., 0]
    (-logprob_BR.sum(-1) * advantage_B).sum().backward()
    model.zero_grad(set_to_none=True)


def _responses(work: Work, vocabulary: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [tuple(row) for row in torch.randint(2, vocabulary, (work.rows, work.response), generator=generator).tolist()]


# -- both ----------------------------------------------------------------------------------------------------------------


def summary(spent: dict[str, list[Spent]], work: Work, tokens: int) -> dict[str, Any]:
    """Ratios and rates; `tokens` are those by which throughput is counted."""
    found: dict[str, Any] = {
        "batch": {"rows": work.rows, "prompt": work.prompt, "response": work.response},
        "ratio": round(throughput_ratio(spent["collm"], spent["bare"]), 3),
        "ratio_by_processor_time": round(throughput_ratio(spent["collm"], spent["bare"], "cpu"), 3),
        "rounds": len(spent["collm"]),
        "tokens_per_second": {k: round(tokens / statistics.median(s.wall for s in v), 1) for k, v in spent.items()},
        "seconds": {k: [round(s.wall, 3) for s in v] for k, v in spent.items()},
    }
    if "bare_all_logits" in spent:
        found["ratio_to_all_logits"] = round(throughput_ratio(spent["collm"], spent["bare_all_logits"]), 3)
    return found


def measure_model(name: str, loaded: LoadedModel, generations: Sequence[Work], updates: Sequence[Work], rounds: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in loaded.model.parameters())
    found: dict[str, Any] = {"model": name, "parameters": parameters, "generation": [], "update": []}
    for kind, works, calls in (("generation", generations, generation_calls), ("update", updates, update_calls)):
        for work in works:
            host = host_of(loaded, work)
            row = summary(alternate(calls(host, work), rounds), work, work.rows * work.response if kind == "generation" else work.tokens)
            found[kind].append(row)
            print(f"{name}, {kind}, {work.rows} rows: {row['ratio']} of the bare model's throughput", flush=True)
    return found


def targets_met(models: Sequence[dict[str, Any]], run: dict[str, Any] | None) -> dict[str, bool]:
    """Whether the worst of each kind reaches its target."""
    met = {
        "generation": min(row["ratio"] for m in models for row in m["generation"]) >= GENERATION_TARGET,
        "update": min(row["ratio"] for m in models for row in m["update"]) >= UPDATE_TARGET,
    }
    return met if run is None else {**met, "run": run["share_outside_models"] < RUN_TARGET}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7, help="counted runs of each side")
    arguments.add_argument("--threads", type=int, help="of torch; with 1, processor times say most on a machine that others use too")
    arguments.add_argument("--skip-run", action="store_true", help="leave the training run out")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "overhead.json")
    chosen = arguments.parse_args()
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    about = machine()
    small, large = [Work(8, 96, 96), Work(32, 96, 96)], [Work(4, 128, 32), Work(16, 128, 32)]
    models = [
        measure_model("tiny-a", load_model("tiny-a", "causal", torch.float32), small, small, chosen.rounds),
        measure_model("random Qwen3", random_model(THIRTY_MILLION), large, [Work(8, 128, 64)], chosen.rounds),
    ]
    run = None
    if not chosen.skip_run:
        with tempfile.TemporaryDirectory() as folder:
            run = measure_run(Path(folder) / "run", updates=3)
        print(f"training run: {100 * run['share_outside_models']:.1f} % of its wall time outside models", flush=True)
    write_result({"targets_met": targets_met(models, run), "models": models, "training_run": run}, about, chosen.out)


if __name__ == "__main__":
    main()
