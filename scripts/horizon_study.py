"""What separates the methods: horizon and sparsity of the reward, in a game small enough for many seeds.

Trains MAGRPO, CoLLM-DC and CoLLM-CC at equal env steps on `examples/relay.py` with random small models made on the spot, and
writes docs/results/horizon.{json,md,png}.

.venv/bin/python scripts/horizon_study.py               # about a quarter of an hour on one core; finished runs are kept in runs/horizon
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from demo_results import ROOT, machine
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config
from transformers.utils import logging

import collm
from collm.config.load import resolve
from collm.evaluation.bootstrap import mean_interval
from collm.reports.read import rows

sys.path.insert(0, str(ROOT))
from examples.relay import RelayEnv

# label, turns H, one late reward
SETTINGS = [("H = 6, reward each turn", 6, False), ("H = 6, one late reward", 6, True)]
METHODS = {"magrpo": "#c8553d", "collm-dc": "#3d8b5f", "collm-cc": "#2f6db5", "collm-cc, GAE 0.9": "#8a5fa8"}
GRID = 40
PAGE = """# Horizon and sparse reward

`examples/relay.py`: two agents, each shown a symbol of its own every turn; a turn earns 1/H if both repeat theirs, and either it is paid
at once or all of it at the last turn. Small random models ({parameters} parameters, one token per response), {steps} env steps for every
method, {seeds} seeds, K = 2 for MAGRPO, {batch} env steps per update (or one tree where that is more), the same optimizer settings for all
actors. Return of the last fifth of training (the most is 1), mean over seeds with its 95 % bootstrap interval.
Again with `.venv/bin/python scripts/horizon_study.py`.

| setting | {header} |
|---|{dashes}|
{table}

![Return against env steps](horizon.png)

{reading}

Machine: {machine}.
"""
READING = ROOT / "docs" / "results" / "horizon_reading.md"


def tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """One token per word; a chat is its messages' words in order."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<eos>", "<unk>", *words])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
    made.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return made


def small_model(words: list[str], seed: int) -> collm.LoadedModel:
    """A Qwen3 of two layers with random weights."""
    made = tokenizer(words)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}
    shape |= {"intermediate_size": 96, "initializer_range": 0.05, "tie_word_embeddings": True}
    config = Qwen3Config(vocab_size=len(made), eos_token_id=0, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return collm.LoadedModel(AutoModelForCausalLM.from_config(config), made)


def settings(method: str, turns: int, seed: int, steps: int, batch: int) -> collm.Config:
    """About `batch` env steps per update for every method."""
    tree = sum(2**t for t in range(1, turns + 1))
    episodes = max(1, round(batch / (tree if method == "magrpo" else turns)))
    agent = "{model: live, max_new_tokens: 1, optimizer: {learning_rate: 3e-3}}"
    overrides = [
        "task.env=examples.relay:RelayEnv",
        f"agents=[{agent}, {agent}]",
        "critic={model: live, optimizer: {learning_rate: 3e-3}}",
        "algorithm.discount=1.0",
        "context_window=256",
        "critic.context_window=256",
        f"training={{updates: 100000, env_steps: {steps}, episodes_per_update: {episodes}, checkpoint_every: 1000}}",
        "training.micro_batch_tokens=8192",
        "evaluation={every: 0, sampled_episodes: 16}",
        "logging={episodes_per_update: 0, tensorboard: false}",
    ]
    name, _, gae = method.partition(", GAE ")
    return resolve("custom", method=name, overrides=[*overrides, f"algorithm.gae_lambda={gae or 0.0}"], seed=seed)


def train(method: str, turns: int, sparse: bool, seed: int, steps: int, batch: int, folder: Path) -> None:
    spoken = ["x", "y"]
    read = [*spoken, "agent_0", "agent_1", "sees", "says", "info", "turn", "of", "[", "]", *map(str, range(10))]
    live = {f"agent_{i}": small_model(spoken, 100 * seed + i) for i in range(2)}
    critics = {"magrpo": [], "collm-cc": ["critic"], "collm-dc": ["critic_agent_0", "critic_agent_1"]}[method.partition(",")[0]]
    live |= {name: small_model(read, 100 * seed + 10 + i) for i, name in enumerate(critics)}
    env = partial(RelayEnv, turns, sparse)
    collm.Trainer(settings(method, turns, seed, steps, batch), folder, models=live, env=env, rows=([None], [None])).run()


def curve(folder: Path, steps: int) -> np.ndarray:
    """Training return on a grid of env steps."""
    metrics = rows(folder, "metrics.jsonl")
    x, y = [m["env_steps"] for m in metrics], [m["return_mean"] for m in metrics]
    edges = np.linspace(0, steps, GRID + 1)
    means = [np.mean([v for s, v in zip(x, y, strict=True) if a < s <= b] or [np.nan]) for a, b in itertools.pairwise(edges)]
    return np.interp(edges[1:], edges[1:][~np.isnan(means)], np.array(means)[~np.isnan(means)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "horizon")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--env-steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=36)
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    curves: dict[str, dict[str, np.ndarray]] = {}
    for label, turns, sparse in SETTINGS:
        curves[label] = {}
        for method in METHODS:
            found = []
            for seed in range(options.seeds):
                name = method.replace(", GAE ", "-gae")
                folder = options.runs / f"h{turns}-{'late' if sparse else 'dense'}-{name}-{seed}"
                if not (folder / "final").is_dir():
                    train(method, turns, sparse, seed, options.env_steps, options.batch, folder)
                found.append(curve(folder, options.env_steps))
            curves[label][method] = np.stack(found)
            late = curves[label][method][:, -GRID // 5 :].mean(1)
            print(f"{label:28} {method:10} {late.mean():.3f}  {np.round(late, 2)}", flush=True)
    report(curves, options)


def report(curves: dict[str, dict[str, np.ndarray]], options: argparse.Namespace) -> None:
    target = ROOT / "docs" / "results"
    x = np.linspace(0, options.env_steps, GRID + 1)[1:]
    figure, axes = plt.subplots(1, len(curves), figsize=(11, 3.6), dpi=150, sharey=True)
    table, data = [], {}
    for ax, (label, by_method) in zip(axes, curves.items(), strict=True):
        cells = []
        for method, seeds in by_method.items():
            bands = [mean_interval(column.tolist(), 2000, 0) for column in seeds.T]
            ax.plot(x, [m for m, _ in bands], color=METHODS[method], label=method)
            ax.fill_between(x, [b[0] for _, b in bands], [b[1] for _, b in bands], color=METHODS[method], alpha=0.2, linewidth=0)
            mean, (low, high) = mean_interval(seeds[:, -GRID // 5 :].mean(1).tolist(), 2000, 0)
            cells.append(f"{mean:.2f} ({low:.2f} to {high:.2f})")
            data.setdefault(label, {})[method] = {"final": mean, "ci95": [low, high], "curves": np.round(seeds, 4).tolist()}
        table.append(f"| {label} | {' | '.join(cells)} |")
        ax.set_title(label, fontsize=10)
        ax.set_xlabel("env steps (joint actions)")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return per episode")
    axes[0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(target / "horizon.png")
    (target / "horizon.json").write_text(json.dumps({"machine": machine(), "env_steps": options.env_steps, "settings": data}) + "\n")
    parameters = sum(p.numel() for p in small_model(["x", "y"], 0).model.parameters())
    page = PAGE.format(
        parameters=f"{parameters:,}",
        steps=options.env_steps,
        seeds=options.seeds,
        batch=options.batch,
        header=" | ".join(METHODS),
        dashes="---|" * (len(METHODS) - 1) + "---",
        table="\n".join(table),
        reading=READING.read_text().strip() if READING.is_file() else "",
        machine=machine(),
    )
    (target / "horizon.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
