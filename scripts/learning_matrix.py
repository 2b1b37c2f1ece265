"""Does every supported set-up learn? Short runs of both methods over models, history modes and team sizes, before against after.

.venv/bin/python scripts/learning_matrix.py             # trains what is missing under runs/matrix, writes docs/results/matrix.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from demo_results import ROOT, machine
from rich.console import Console

import collm
from collm.reports.read import rows

SHORT = [
    "training.updates=6",
    "training.episodes_per_update=16",
    "evaluation.sampled_episodes=32",
    "evaluation.every=0",
    "logging.tensorboard=false",
    "agents.0.optimizer.schedule=constant",
    "agents.1.optimizer.schedule=constant",
]
ADAPTER = "{model: tiny-a, tuning: lora, lora: {rank: 16}, max_new_tokens: 160, optimizer: {learning_rate: 1e-3}}"
SETTINGS = {
    "tiny-a + tiny-b, history full": [],
    "tiny-a + tiny-b, history last": ["history=last"],
    "2 agents and critic(s) as LoRA adapters of one tiny-a": [
        f"agents=[{ADAPTER}, {ADAPTER}]",
        "critic={model: tiny-a, tuning: lora, optimizer: {learning_rate: 1e-3}}",
    ],
    "1 agent (tiny-a)": ["agents.1=null"],
    "3 agents (tiny-a, tiny-b, tiny-b)": ["agents.2.model=tiny-b"],
}
PAGE = """# Every set-up learns

Held-out return (ICML and CLIM, {episodes} sampled episodes, 95 % bootstrap interval of the mean) before and after {updates} updates of
16 episodes, seed 0. These runs are short: they show that each combination of method, models, history mode and team size improves, not how
far it gets. Again with `.venv/bin/python scripts/learning_matrix.py`; figures in `matrix.json`.

| set-up | method | before | after | change |
|---|---|---|---|---|
{table}

Machine: {machine}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "matrix")
    parser.add_argument("--finished", action="store_true", help="train nothing; write the page from the runs that are there")
    options = parser.parse_args()
    found = []
    for i, (label, overrides) in enumerate(SETTINGS.items()):
        for method in ("collm-cc", "collm-dc"):
            folder = options.runs / f"{i}-{method}"
            if options.finished and not (folder / "final").is_dir():
                continue
            if not (folder / "final").is_dir():
                run = collm.train("strbuild", method, overrides=[*SHORT, *overrides], seed=0, run_dir=folder, console=Console())
                if not run.finished:
                    raise SystemExit(f"stopped; continue with `collm train --resume {folder}`, then run this again")
            evaluations = rows(folder, "eval.jsonl")
            found.append({"setup": label, "method": method, "before": evaluations[0], "after": evaluations[-1]})
    target = ROOT / "docs" / "results"
    (target / "matrix.json").write_text(json.dumps({"machine": machine(), "runs": found}, indent=1) + "\n")
    table = "\n".join(map(line, found))
    last = found[-1]["after"]
    page = PAGE.format(episodes=last["episodes"], updates=last["update"], table=table, machine=machine())
    (target / "matrix.md").write_text(page)
    print(page)


def line(run: dict) -> str:
    """One row of the page's table."""

    def interval(row: dict) -> str:
        return f"{row['return_mean']:.2f} ({row['return_ci95'][0]:.2f} to {row['return_ci95'][1]:.2f})"

    change = run["after"]["return_mean"] - run["before"]["return_mean"]
    return f"| {run['setup']} | {run['method']} | {interval(run['before'])} | {interval(run['after'])} | {change:+.2f} |"


if __name__ == "__main__":
    main()
