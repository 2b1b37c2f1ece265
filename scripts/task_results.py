"""Trains the built-in team on every task, three seeds each, and writes docs/results/tasks: curves, figures and one table.

.venv/bin/python scripts/task_results.py                # trains what is missing under runs/tasks; about 40 minutes on two cores
.venv/bin/python scripts/task_results.py tldr --jobs 2  # one task
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from demo_results import machine

from collm.cli.main import app_main
from collm.reports.comparison import Comparison, read_comparison

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results" / "tasks"
SHARED = ["evaluation.every=0", "evaluation.sampled_episodes=64", "logging.tensorboard=false"]
PAGE_TEXT = """# Every task, three seeds

The built-in team (`tiny-a` + `tiny-b`) trained with CoLLM-CC on each task's built-in rows; held out are the task's test rows. Returns are
undiscounted sums of an episode's rewards, over 64 sampled episodes or more, with the 95 % bootstrap interval over episodes; few rows stand
behind them (12 posts, 12 abstracts, 8 problems, 2 houses), so that they say more about these rows than about others. Minutes are one run's
wall clock, evaluations included, on one core with another run beside it. Again with `.venv/bin/python scripts/task_results.py`. StrBuild is
[the demo](../README.md).

| task | seed | held out, before | held out, after | change | most | env steps | minutes |
|---|---|---|---|---|---|---|---|
{table}

Machine: {machine}.

{reading}
{curves}"""


@dataclass(frozen=True)
class Study:
    """How many joint actions a run of a task is given, and the largest return of an episode."""

    env_steps: int
    most: str


STUDIES = {
    "tldr": Study(1280, "3"),
    "coophe": Study(1920, "7.8 (4 a turn; solved ends it)"),
    "housebuild": Study(800, "8 (2 a turn; solved ends it)"),
    "arxiv": Study(960, "3"),
}
"""StrBuild is the demo: demo_results.py."""


def command(task: str, folder: Path, jobs: int, seeds: int) -> list[str]:
    return [
        "compare",
        task,
        *("--methods", "collm-cc", "--seeds", str(seeds), "--env-steps", str(STUDIES[task].env_steps)),
        *("--jobs", str(jobs), "--run-dir", str(folder), *SHARED),
    ]


def lines(task: str, comparison: Comparison) -> list[str]:
    """Held-out return before and after, per seed, and the mean change with its interval over seeds."""
    (runs,) = comparison.runs.values()
    found = []
    for run in runs:
        before, after = run.before, run.after
        change = after["return_mean"] - before["return_mean"]
        shown = " | ".join(f"{x['return_mean']:.2f} ({x['return_ci95'][0]:.2f} to {x['return_ci95'][1]:.2f})" for x in (before, after))
        found.append(f"| {task} | {run.seed} | {shown} | {change:+.2f} | {STUDIES[task].most} | {run.env_steps} | {run.seconds / 60:.1f} |")
    return found


def write_page(runs: Path) -> None:
    """The overview of every task whose runs are there."""
    done = {task: read_comparison(runs / task) for task in STUDIES if (runs / task / "comparison.json").is_file()}
    table = [line for task, comparison in done.items() for line in lines(task, comparison)]
    curves = [
        f"## {task}\n\n![Return against env steps on {task}]({task}/comparison.png)\n\n[Tables]({task}/comparison.md)\n" for task in done
    ]
    told = (PAGE / "reading.md").read_text(encoding="utf-8") if (PAGE / "reading.md").is_file() else ""
    text = PAGE_TEXT.format(table="\n".join(table), reading=told, curves="\n".join(curves), machine=machine())
    (PAGE / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(STUDIES)}; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs/tasks"), help="from the repository's root")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if unknown := set(options.tasks) - set(STUDIES):
        parser.error(f"no study of {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    for task in options.tasks or STUDIES:
        folder = options.runs / task
        try:
            app_main(command(task, folder, options.jobs, options.seeds))
        except SystemExit as ended:
            if ended.code:
                raise
        target = PAGE / task
        target.mkdir(parents=True, exist_ok=True)
        for name in ("comparison.json", "comparison.md", "comparison.png"):
            shutil.copy(folder / name, target / name)
    write_page(options.runs)


if __name__ == "__main__":
    main()
