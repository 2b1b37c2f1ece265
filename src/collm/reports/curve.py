"""Learning curves: return against env steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from collm.reports.read import rows

COLOURS = ("#2f6db5", "#c8553d", "#3d8b5f", "#8a5fa8", "#b58a2f")


def learning_curve(runs: Mapping[str, Path], target: Path, title: str) -> Path:
    """Draw training return (thin) and held-out return with its 95 % interval (thick) of each run; writes a PNG.

    `runs` maps labels to run folders; returns are undiscounted sums per episode. Raises RunFolderError for a folder without logs.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=150)
    for i, (label, run_dir) in enumerate(runs.items()):
        colour = COLOURS[i % len(COLOURS)]
        training = rows(run_dir, "metrics.jsonl")
        axes.plot([r["env_steps"] for r in training], [r["return_mean"] for r in training], color=colour, linewidth=0.9, alpha=0.45)
        held_out = rows(run_dir, "eval.jsonl")
        steps, means = [r["env_steps"] for r in held_out], [r["return_mean"] for r in held_out]
        axes.plot(steps, means, color=colour, linewidth=2, marker="o", markersize=4, label=f"{label}, held out")
        axes.fill_between(
            steps, [r["return_ci95"][0] for r in held_out], [r["return_ci95"][1] for r in held_out], color=colour, alpha=0.18, linewidth=0
        )
    axes.set_xlabel("env steps (joint actions)")
    axes.set_ylabel("return per episode")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([], [], color="grey", linewidth=0.9, alpha=0.6, label="while training, on the training rows")
    axes.fill_between([], [], [], color="grey", alpha=0.18, linewidth=0, label="95 % bootstrap interval of the held-out mean")
    axes.legend(fontsize=8, frameon=False, loc="best")
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    plt.close(figure)
    return target
