"""From the reports of both sides to the comparison. Standard library only."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
PHASES = ("rollout_s_per_env_step", "update_s_per_env_step")
WORK = ("context_tokens_per_env_step", "response_tokens_per_env_step")
TOLERANCE = 0.01


class UnequalWork(Exception):
    """The two sides did not read and write the same number of tokens."""


def medians(reports: Sequence[Report]) -> dict[str, float]:
    """Figure by figure."""
    return {key: statistics.median(r[key] for r in reports) for key, value in reports[0].items() if isinstance(value, int | float)}


def ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """How many times better collm is: rates ours / theirs, costs theirs / ours."""
    rates, costs = ("env_steps_per_s", "tokens_per_s"), (*PHASES, "cpu_s_per_env_step", "peak_mb")
    return {key: ours[key] / theirs[key] for key in rates} | {key: theirs[key] / ours[key] for key in costs}


def check_equal(method: str, ours: Report, theirs: Report, expected: Mapping[str, float]) -> None:
    """Raises UnequalWork unless both sides read and wrote what the task says."""
    for key in WORK:
        for side, report in (("collm", ours), ("comlrl", theirs)):
            if abs(report[key] / expected[key] - 1) > TOLERANCE:
                raise UnequalWork(f"{method}: {side} had {report[key]:.1f} {key}, not {expected[key]:.1f}")


def compare(runs: Mapping[str, Sequence[Report]]) -> dict[str, Any]:
    """One method's repeats, by "collm", "comlrl" and "floor"."""
    ours, theirs, floor = (medians(runs[side]) for side in ("collm", "comlrl", "floor"))
    return {
        "collm": ours,
        "comlrl": theirs,
        "ratios": ratios(ours, theirs),
        "floor": floor,
        # Costs over those of the bare model: 1 would be nothing but the model's arithmetic.
        "to_floor": {phase: ours[phase] / floor[phase] for phase in PHASES},
        "repeats": {side: [r["env_steps_per_s"] for r in runs[side]] for side in ("collm", "comlrl")},
    }


def table(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rows of Markdown, one per method: collm / comlrl, what it is better by, and what each phase of ours is over the bare model."""
    lines = [
        "| method | env steps/s | tokens/s | update, s per env step | peak MB | times as fast | generation, x bare | update, x bare |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, found in methods.items():
        ours, theirs, over = found["collm"], found["comlrl"], found["to_floor"]
        pairs = [
            f"{ours['env_steps_per_s']:.3g} / {theirs['env_steps_per_s']:.3g}",
            f"{ours['tokens_per_s']:.0f} / {theirs['tokens_per_s']:.0f}",
            f"{ours['update_s_per_env_step']:.3g} / {theirs['update_s_per_env_step']:.3g}",
            f"{ours['peak_mb']:.0f} / {theirs['peak_mb']:.0f}",
        ]
        cells = [method, *pairs, f"{found['ratios']['env_steps_per_s']:.1f}", *(f"{over[phase]:.2f}" for phase in PHASES)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
