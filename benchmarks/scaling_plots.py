"""The plots of `scaling.py`, from its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

Row = dict[str, Any]
BLUE, ORANGE, GREY, GREEN = "#2f6db3", "#d9772b", "#8a8a8a", "#3f8f5b"
WITH = {"agents": "agents n  (K = 2, H = 2, 4 trees)", "samples": "samples K  (n = 2, H = 3)", "turns": "turns H  (n = 2, K = 2)"}


def draw_all(result: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _trees(result["trees"], folder / "trees.png")
    _context(result["context"], folder / "context.png")
    _in_flight(result["in_flight"], folder / "in_flight.png")
    _adapters(result["adapters"], folder / "adapters.png")
    _history(result["history"], folder / "history.png")


def _trees(sweeps: dict[str, list[Row]], out: Path) -> None:
    figure, axes = _figure(3, 2)
    for column, (name, rows) in enumerate(sweeps.items()):
        x = [row[name] for row in rows]
        counts, seconds = axes[column], axes[3 + column]
        counts.plot(x, [r["predicted_calls"] for r in rows], color=GREY, lw=4, alpha=0.5, label="inference calls, Prop. 4.3")
        counts.plot(x, [r["inference_calls"] for r in rows], "o", color=BLUE, label="inference calls, measured")
        counts.plot(x, [r["predicted_joint_actions"] for r in rows], "--", color=GREY, lw=2, label="joint actions, full tree")
        counts.plot(x, [r["joint_actions"] for r in rows], "s", ms=5, color=ORANGE, label="joint actions, measured")
        seconds.plot(x, [r["rollout_seconds"] for r in rows], "o-", color=BLUE, label="rollout")
        seconds.plot(x, [r["update_seconds"] for r in rows], "s-", color=ORANGE, label="update")
        for axis, label in ((counts, "count"), (seconds, "seconds (median)")):
            axis.set_xticks(x)
            if name != "agents":
                axis.set_yscale("log")
            _label(axis, WITH[name], label)
    _save(figure, "Cost of rollout trees", out)


def _context(rows: list[Row], out: Path) -> None:
    figure, (axis,) = _figure(1)
    x = [r["prompt"] for r in rows]
    axis.plot(x, [r["rollout_seconds"] for r in rows], "o-", color=BLUE, label="rollout: read 8 prompts, sample 16 tokens each")
    axis.plot(x, [r["update_seconds"] for r in rows], "s-", color=ORANGE, label="update on them")
    _label(axis, "prompt length (tokens)", "seconds (median)")
    _save(figure, "Cost against context length, one agent", out)


def _in_flight(rows: list[Row], out: Path) -> None:
    figure, (axis,) = _figure(1)
    x = [r["in_flight"] for r in rows]
    rates = [r["tokens_per_second"] for r in rows]
    axis.plot(x, rates, "o-", color=BLUE, label="measured")
    axis.plot(x, [rates[0] * size for size in x], "--", color=GREY, label="in proportion to the batch")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(x, [str(size) for size in x])
    _label(axis, "episodes in flight", "generated tokens per second")
    _save(figure, "2 agents, 32 episodes, H = 2", out)


def _adapters(rows: list[Row], out: Path) -> None:
    figure, axes = _figure(3)
    x = [r["agents"] for r in rows]
    panels = (
        ("rollout_seconds", "seconds of a rollout (median)", 1.0),
        ("update_seconds", "seconds of an update (median)", 1.0),
        ("parameters", "thousand parameters in memory", 1000.0),
    )
    for axis, (key, label, unit) in zip(axes, panels, strict=True):
        axis.plot(x, [r["adapters"][key] / unit for r in rows], "o-", color=BLUE, label="LoRA adapters on one base")
        axis.plot(x, [r["own_models"][key] / unit for r in rows], "s-", color=ORANGE, label="a model each, fully tuned")
        axis.set_xticks(x)
        _label(axis, "agents", label)
    _save(figure, "Agents on one base (8 episodes, H = 2)", out)


def _history(rows: list[Row], out: Path) -> None:
    figure, (tokens, seconds) = _figure(2)
    x = [r["turns"] for r in rows]
    tokens.plot(x, [r["predicted_tokens"]["reread"] for r in rows], "--", color=GREY, label="reading every history anew, predicted")
    tokens.plot(x, [r["reread"]["read_tokens"] for r in rows], "s", color=ORANGE, label="no caches kept, measured")
    tokens.plot(
        x, [r["predicted_tokens"]["carried"] for r in rows], color=GREY, lw=4, alpha=0.5, label="prompts + responses once, predicted"
    )
    tokens.plot(x, [r["carried"]["read_tokens"] for r in rows], "o", color=BLUE, label="caches carried, measured")
    _label(tokens, "turns H", "tokens read by the models")
    seconds.plot(x, [r["reread"]["rollout_seconds"] for r in rows], "s-", color=ORANGE, label="no caches kept")
    seconds.plot(x, [r["carried"]["rollout_seconds"] for r in rows], "o-", color=BLUE, label="caches carried")
    _label(seconds, "turns H", "seconds of a rollout (median)")
    _save(figure, "Generation with history: full (2 agents, 8 episodes, 160 tokens of feedback)", out)


def _figure(columns: int, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(5.2 * columns, 4.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel().tolist()


def _label(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if axis.get_yscale() == "linear":
        axis.set_ylim(bottom=0)
    else:
        # Powers of ten only: minor labels of a logarithmic axis crowd one another.
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)


def _save(figure: Figure, title: str, out: Path) -> None:
    figure.suptitle(title)
    figure.savefig(out, dpi=110)
