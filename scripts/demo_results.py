"""Runs the demo for several seeds and writes docs/results: the curve, the figures and a page about them.

.venv/bin/python scripts/demo_results.py                # trains runs/results/seed-0, -1, -2 where they are missing
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from rich.console import Console

import collm
from collm.reports.curve import learning_curve
from collm.reports.read import rows

ROOT = Path(__file__).parent.parent
PAGE = """# The demo, three seeds

`make demo SEED=0` (and 1, 2) trains `tiny-a` and `tiny-b` with CoLLM-CC on the eight training strings of StrBuild.
Held out: ICML and CLIM, {episodes} sampled episodes (undiscounted return of up to four turns, 95 % bootstrap interval of the mean),
before and after. Get these figures again with `.venv/bin/python scripts/demo_results.py`;
`demo.json` beside this page holds every evaluation.

| seed | before | after | change | greedy before | greedy after | env steps | training | evaluation |
|---|---|---|---|---|---|---|---|---|
{table}

Machine: {machine}. Times are wall clock; all other figures repeat exactly on the same machine.

Greedy decoding (one episode per held-out string) goes the other way: taking the likeliest token at every place makes the untrained
models skip few cells ({greedy:.0f} accepted commands in the last turn, against {sampled:.0f} when sampled), and what training improves
is the policy that is sampled. The held-out strings are longer than any training string: {cut[0]:.0f} to {cut[1]:.0f} % of a trained
team's responses hit the limit of 160 tokens there, and the return stays below that on the training rows.

![Held-out and training return against env steps](learning_curve.png)
"""


def machine() -> str:
    """The machine in words."""
    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), platform.machine()
    )
    return f"{model}, {torch.get_num_threads()} cores, torch {torch.__version__}, {platform.system()}"


def summary(seed: int, run_dir: Path) -> dict:
    """One run's figures."""
    evaluations, metrics = rows(run_dir, "eval.jsonl"), rows(run_dir, "metrics.jsonl")
    return {
        "seed": seed,
        "evaluations": evaluations,
        "env_steps": metrics[-1]["env_steps"],
        "training_seconds": round(sum(r["seconds_total"] for r in metrics), 1),
        "evaluation_seconds": round(sum(r["seconds_evaluate"] for r in evaluations), 1),
    }


def line(run: dict) -> str:
    """One row of the page's table."""
    first, last = run["evaluations"][0], run["evaluations"][-1]

    def interval(row: dict) -> str:
        return f"{row['return_mean']:.2f} ({row['return_ci95'][0]:.2f} to {row['return_ci95'][1]:.2f})"

    return (
        f"| {run['seed']} | {interval(first)} | {interval(last)} | **{last['return_mean'] - first['return_mean']:+.2f}** | "
        f"{first['greedy']['return_mean']:.2f} | {last['greedy']['return_mean']:.2f} | {run['env_steps']} | "
        f"{run['training_seconds'] / 60:.1f} min | {run['evaluation_seconds']:.0f} s |"
    )


def page(runs: list[dict]) -> str:
    """The page about all runs."""
    first, after = runs[0]["evaluations"][0], [run["evaluations"][-1] for run in runs]
    cut = sorted(100 * row["cut_share"] for row in after)
    return PAGE.format(
        episodes=first["episodes"],
        table="\n".join(map(line, runs)),
        machine=machine(),
        greedy=first["greedy"]["metrics"]["accepted_commands"],
        sampled=first["metrics"]["accepted_commands"],
        cut=(cut[0], cut[-1]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "results")
    options = parser.parse_args()
    folders = {seed: options.runs / f"seed-{seed}" for seed in options.seeds}
    for seed, folder in folders.items():
        if not (folder / "final").is_dir():
            begun = time.monotonic()
            if not collm.train("strbuild", "collm-cc", seed=seed, run_dir=folder, console=Console()).finished:
                raise SystemExit(f"stopped; continue with `collm train --resume {folder}`, then run this again")
            print(f"seed {seed}: {time.monotonic() - begun:.0f} s in all")
    runs = [summary(seed, folder) for seed, folder in folders.items()]
    target = ROOT / "docs" / "results"
    target.mkdir(parents=True, exist_ok=True)
    (target / "demo.json").write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")
    learning_curve(
        {f"seed {s}": f for s, f in folders.items()}, target / "learning_curve.png", "CoLLM-CC on StrBuild, held-out strings ICML and CLIM"
    )
    (target / "README.md").write_text(page(runs))
    print((target / "README.md").read_text())


if __name__ == "__main__":
    main()
