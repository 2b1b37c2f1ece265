"""Puts the tables of the measured results into docs/benchmarks.md: `python benchmarks/equal_work/fill_docs.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from equal_work.compare import table

BENCHMARKS = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- against_comlrl: begin -->", "<!-- against_comlrl: end -->"


def section(result: dict[str, Any]) -> list[str]:
    """One results file as Markdown."""
    about = result["machine"]
    steps = ", as many optimizer steps on both sides" if result["equal_steps"] else ""
    steps += ", comlrl on a full buffer" if result["full_buffer"] else ""
    where = f"{about['cpu']}, {about['threads']} threads, {result['date']}, load average before {about['load_average_before']:.1f}"
    versions = "; ".join(f"{side}: {', '.join(f'{k} {v}' for k, v in found.items())}" for side, found in result["versions"].items())
    runs = f"medians of {result['repeats']} alternating runs" if result["repeats"] > 1 else "one run of each"
    head = f"**Vocabulary {result['vocab']:,}, schedule `{result['schedule']}`{steps}**, {runs}"
    return [head, "", *table(result["methods"]), "", f"{where}; {versions}.", ""]


def filled(text: str, results: list[dict[str, Any]]) -> str:
    """The document with its tables in place of those it had."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    lines = [line for result in results for line in section(result)]
    return "\n".join([before + BEGIN, "", *lines, END + after])


def main() -> None:
    files = sorted((BENCHMARKS / "results").glob("against_comlrl-*.json"))
    if not files:
        raise SystemExit("no results yet: run benchmarks/against_comlrl.py")
    document = BENCHMARKS.parent / "docs" / "benchmarks.md"
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    document.write_text(filled(document.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
