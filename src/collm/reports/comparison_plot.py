"""The picture of a comparison: return against env steps, and held-out return before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from collm.config import presets
from collm.reports.comparison import Comparison

# Okabe and Ito's colours, told apart by colour-blind eyes too; each algorithm keeps its own in every picture.
_COLOURS = {
    "collm-cc": "#0072B2",
    "collm-dc": "#D55E00",
    "magrpo": "#009E73",
    "ma-reinforce": "#CC79A7",
    "marloo": "#56B4E9",
    "maremax": "#E69F00",
}
_MARKERS = {"collm-cc": "o", "collm-dc": "s", "magrpo": "^", "ma-reinforce": "D", "marloo": "v", "maremax": "P"}


@dataclass(frozen=True)
class _Look:
    colour: str
    line: str
    marker: str


def comparison_plot(comparison: Comparison, target: Path) -> Path:
    """Draw training return against env steps, and held-out return before and after, with bands over seeds; writes a PNG."""
    methods = len(comparison.runs)
    widths = (5.2, max(2.0, 0.62 * methods))
    figure, (curve, held_out) = plt.subplots(
        1, 2, figsize=(1.4 + sum(widths), 4.4), dpi=160, sharey=True, gridspec_kw={"width_ratios": widths}, layout="constrained"
    )
    _draw_curves(curve, comparison)
    _draw_held_out(held_out, comparison)
    for axes in (curve, held_out):
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    held_out.spines["left"].set_visible(False)
    held_out.tick_params(axis="y", length=0)
    figure.suptitle(f"{comparison.task}, {comparison.env_steps} env steps per run: mean over seeds, 95 % bootstrap interval", fontsize=11)
    # Below the axes, where it covers no curve, however many there are.
    figure.legend(loc="outside lower center", ncols=min(methods, 5), fontsize=8, frameon=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    plt.close(figure)
    return target


def _draw_curves(axes: Axes, comparison: Comparison) -> None:
    steps, curves = comparison.curves()
    for method, (mean, low, high) in curves.items():
        look, seeds = _look(method), len(comparison.runs[method])
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
        label = f"{method} ({seeds} seed{'s' if seeds > 1 else ''})"
        every = max(1, len(steps) // 8)
        axes.plot(
            steps,
            mean,
            color=look.colour,
            linestyle=look.line,
            linewidth=1.8,
            marker=look.marker,
            markersize=5,
            markevery=every,
            label=label,
        )
    axes.set_xlim(0, comparison.env_steps)
    axes.set_title("while training, on the training rows", fontsize=9)
    axes.set_xlabel("env steps (joint actions)")
    axes.set_ylabel("return per episode")


def _draw_held_out(axes: Axes, comparison: Comparison) -> None:
    for place, (method, runs) in enumerate(comparison.runs.items()):
        look = _look(method)
        for shift, when, values in (
            (-0.2, "before", [run.before["return_mean"] for run in runs]),
            (0.2, "final", [run.final_return for run in runs]),
        ):
            mean, (low, high) = comparison.spread(method, when)
            face = look.colour if when == "final" else "white"
            axes.scatter([place + shift] * len(values), values, s=7, color=look.colour, alpha=0.35, linewidths=0, zorder=2)
            axes.errorbar(
                place + shift,
                mean,
                yerr=[[mean - low], [high - mean]],
                color=look.colour,
                marker=look.marker,
                markersize=7,
                markerfacecolor=face,
                elinewidth=1.6,
                capsize=3,
                zorder=3,
            )
    axes.set_xticks(range(len(comparison.runs)), list(comparison.runs), rotation=30, ha="right", fontsize=8)
    axes.set_xlim(-0.6, len(comparison.runs) - 0.4)
    axes.set_title("held out: before, after", fontsize=9)


def _look(method: str) -> _Look:
    """A method for a team of one looks like its algorithm, with a broken line."""
    preset = presets.method_preset(method)
    algorithm = preset.settings["method"]
    return _Look(_COLOURS[algorithm], "--" if preset.single_agent else "-", _MARKERS[algorithm])
