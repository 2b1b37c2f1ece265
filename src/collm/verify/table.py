"""One row per comparison, and how the table is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

TOLERANCE = 1e-6
"""Largest relative error of what is exact; in float64 it comes out near 1e-14."""
BIAS_SHOWN = 1e-3
"""A stated bias has to be at least this large on the lab's problem, or the row says nothing."""


class Verdict(StrEnum):
    """PASS: as exact as float64. BIASED: not the gradient, as stated, and equal to what the statement predicts. FAIL: neither."""

    PASS = "PASS"
    BIASED = "BIASED (as stated)"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Row:
    """What was compared. `error` and `cosine` are against the exact gradient; the other two, of which a row has one,
    are "measured / theory"."""

    method: str
    check: str
    problem: str
    verdict: Verdict
    error: float | None = None
    cosine: float | None = None
    variance: str = ""
    calls: str = ""
    note: str = ""


def relative_error(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """|found - exact| / |exact|, the worst member's."""
    return max(float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in zip(found, exact, strict=True))


def cosine(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """The worst member's cosine of found and exact gradient; 0 where nothing was found."""
    norms = [float(np.linalg.norm(f) * np.linalg.norm(e)) for f, e in zip(found, exact, strict=True)]
    return min(float(f @ e) / n if n else 0.0 for f, e, n in zip(found, exact, norms, strict=True))


def exact_row(
    method: str, check: str, problem: str, found: Sequence[np.ndarray], exact: Sequence[np.ndarray], note: str = "", variance: str = ""
) -> Row:
    """PASS where the found gradient is the exact one."""
    error = relative_error(found, exact)
    return Row(method, check, problem, _verdict(error <= TOLERANCE), error, cosine(found, exact), variance, note=note)


def biased_row(
    method: str,
    check: str,
    problem: str,
    found: Sequence[np.ndarray],
    exact: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    note: str,
) -> Row:
    """BIASED where the found gradient is not the exact one, and is the one that the statement predicts."""
    as_predicted = relative_error(found, predicted) <= TOLERANCE
    error = relative_error(found, exact)
    verdict = Verdict.BIASED if as_predicted and error >= BIAS_SHOWN else Verdict.FAIL
    return Row(method, check, problem, verdict, error, cosine(found, exact), note=note)


def variance_row(method: str, check: str, problem: str, measured: float, theory: float, note: str) -> Row:
    """PASS where a measured variance is the theoretical one."""
    error = abs(measured / theory - 1)
    return Row(method, check, problem, _verdict(error <= TOLERANCE), error, variance=f"{measured:.4g} / {theory:.4g}", note=note)


def calls_row(method: str, check: str, problem: str, counted: int, theory: int, note: str) -> Row:
    """PASS where a count is the formula's."""
    return Row(method, check, problem, _verdict(counted == theory), calls=f"{counted} / {theory}", note=note)


def bound_row(method: str, check: str, problem: str, value: float, holds: bool, note: str) -> Row:
    """PASS where a single number keeps its bound."""
    return Row(method, check, problem, _verdict(holds), value, note=note)


def _verdict(holds: bool) -> Verdict:
    return Verdict.PASS if holds else Verdict.FAIL


_COLOURS = {Verdict.PASS: "green", Verdict.BIASED: "yellow", Verdict.FAIL: "bold red"}


def print_table(rows: Sequence[Row], console: Console) -> None:
    """The table, then what its numbered rows mean."""
    table = RichTable(title="Expected gradients of the production code against exact ones", title_justify="left", pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("what is compared")
    table.add_column("problem", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("variance or\ncalls / theory", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    notes: dict[str, int] = {}
    previous = ""
    for row in rows:
        if previous and row.method != previous:
            table.add_section()
        mark = f" [{notes.setdefault(row.note, len(notes) + 1)}]" if row.note else ""
        table.add_row(
            row.method if row.method != previous else "",
            (row.check + mark).replace("[", "\\["),
            row.problem,
            "" if row.error is None else f"{row.error:.1e}",
            "" if row.cosine is None else f"{row.cosine:.4f}",
            row.variance or row.calls,
            f"[{_COLOURS[row.verdict]}]{row.verdict.split(' ')[0]}",
        )
        previous = row.method
    console.print(table)
    for note, number in notes.items():
        console.print(f"[{number}] {note}", markup=False, highlight=False)
    counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count), markup=False, highlight=False)
