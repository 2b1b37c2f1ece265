"""collm beside the released comlrl on equal work.

    python benchmarks/against_comlrl.py [--vocab 320|151936] [--schedule batched|theirs] [--repeats N] [METHOD...]

Each side runs in its own process and environment, one after the other and in turns; docs/benchmarks.md says what is equal.
comlrl's environment is made at the first run. Writes a JSON file; the last line of output is the same object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_tools import machine, write_result
from equal_work import task
from equal_work.checkpoint import make_checkpoint
from equal_work.compare import Report, check_equal, compare, table
from equal_work.schedules import METHODS, SCHEDULES, Plan, plan, samples_of

HERE = Path(__file__).parent
COMLRL, TORCH = "comlrl==1.4.3", "torch==2.13.0"
ENVIRONMENT = Path.home() / ".cache" / "collm-benchmarks" / "comlrl-1.4.3"


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    """A command's output; if it fails, what it said to standard error, and the end."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=env)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"failed with {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def comlrl_python(folder: Path) -> Path:
    """The interpreter of an environment that holds comlrl, made if there is none."""
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {COMLRL} into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        # torch first, and the version collm was measured with: comlrl alone would take any.
        run([python, "-m", "pip", "install", "--quiet", TORCH])
        run([python, "-m", "pip", "install", "--quiet", COMLRL])
        done.touch()
    return python


def same_settings(threads: int) -> dict[str, str]:
    """The environment variables of every measured process: as many threads, no network, no wandb."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
    }


class Sides:
    """Starts the measured processes."""

    def __init__(self, checkpoint: Path, comlrl: Path, threads: int) -> None:
        self._checkpoint, self._comlrl, self._settings = checkpoint, comlrl, same_settings(threads)

    def measure(self, side: str, method: str, chosen: Plan) -> Report:
        """One run of one side."""
        command: dict[str, tuple[Path, str, list[int]]] = {
            "collm": (
                Path(sys.executable),
                "collm_side.py",
                [chosen.episodes, chosen.per_step, chosen.updates + chosen.warm_up, chosen.warm_up],
            ),
            "comlrl": (self._comlrl, "comlrl_side.py", [chosen.buffer, chosen.batch, chosen.rollouts, chosen.warm_rollouts]),
            "floor": (Path(sys.executable), "floor.py", [chosen.episodes, chosen.optimizer_steps(method)]),
        }
        python, script, numbers = command[side]
        said = run([python, HERE / "equal_work" / script, self._checkpoint, method, *map(str, numbers)], self._settings)
        return json.loads(said.splitlines()[-1])


def measure_method(sides: Sides, method: str, chosen: Plan, repeats: int) -> tuple[dict[str, Any], dict[str, str]]:
    """All repeats of one method: the comparison, and the versions that comlrl ran with."""
    runs: dict[str, list[Report]] = {"collm": [], "comlrl": [], "floor": []}
    samples = samples_of(method)
    expected = {
        "context_tokens_per_env_step": task.context_tokens_per_step(samples),
        "response_tokens_per_env_step": float(task.AGENTS * task.RESPONSE_TOKENS),
    }
    for repeat in range(repeats):
        # The bare model is asked once: its passes are long enough to be told apart from ours without repeats.
        order = ["collm", "comlrl"] if repeat else list(runs)
        for side in reversed(order) if repeat % 2 else order:
            runs[side].append(sides.measure(side, method, chosen))
        ours, theirs = runs["collm"][-1], runs["comlrl"][-1]
        check_equal(method, ours, theirs, expected)
        rates = f"collm {ours['env_steps_per_s']:.3g}, comlrl {theirs['env_steps_per_s']:.3g} env steps/s"
        print(f"{method} {repeat + 1}/{repeats}: {rates}, {ours['env_steps_per_s'] / theirs['env_steps_per_s']:.2f} times", flush=True)
    return compare(runs) | {"plan": vars(chosen)}, runs["comlrl"][0]["versions"]


def default_out(chosen: argparse.Namespace) -> Path:
    """Where a full measurement is kept; a quick one or one of some methods shall not take its place."""
    partial = chosen.quick or len(chosen.methods) < len(METHODS)
    variant = ("-equal-steps" if chosen.equal_steps else "") + ("-full-buffer" if chosen.full_buffer else "")
    folder = Path(tempfile.gettempdir()) if partial else HERE / "results"
    return folder / f"against_comlrl-{chosen.vocab}-{chosen.schedule}{variant}.json"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"default: {', '.join(METHODS)}")
    parser.add_argument("--vocab", type=int, choices=(320, 151936), default=320)
    parser.add_argument("--schedule", choices=SCHEDULES, default="batched")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--equal-steps", action="store_true", help="collm takes as many optimizer steps as comlrl, which makes one per turn"
    )
    parser.add_argument(
        "--full-buffer", action="store_true", help="batched: comlrl is timed on a buffer as large as collm's update, not a quarter"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every process; default: one per core")
    parser.add_argument("--quick", action="store_true", help="as little as runs at all, cold: shows that it works, measures nothing")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/; with --quick or METHOD the temporary folder")
    chosen = parser.parse_args()
    chosen.methods = chosen.methods or list(METHODS)
    if unknown := set(chosen.methods) - set(METHODS):
        parser.error(f"no such method: {', '.join(sorted(unknown))}; there are {', '.join(METHODS)}")
    if chosen.repeats < 1:
        parser.error("--repeats must be at least 1")
    return chosen


def main() -> None:
    chosen, about = parse(), machine()
    about["threads"] = chosen.threads
    if about["load_average_before"] >= 1:
        # Two threads that wait for one another suffer more than their share of the time: the small passes of comlrl most.
        print(f"load average {about['load_average_before']:.1f}: others are busy here, the figures will not be worth keeping", flush=True)
    found: dict[str, Any] = {}
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(make_checkpoint(Path(folder), chosen.vocab), comlrl_python(ENVIRONMENT), chosen.threads)
        for method in chosen.methods:
            wanted = plan(
                method, chosen.schedule, chosen.vocab, equal_steps=chosen.equal_steps, full_buffer=chosen.full_buffer, quick=chosen.quick
            )
            found[method], versions = measure_method(sides, method, wanted, chosen.repeats)
    print("\n".join(table(found)))
    result = {
        "vocab": chosen.vocab,
        "schedule": chosen.schedule,
        "ratios": {method: entry["ratios"]["env_steps_per_s"] for method, entry in found.items()},
        "repeats": chosen.repeats,
        "quick": chosen.quick,
        "equal_steps": chosen.equal_steps,
        "full_buffer": chosen.full_buffer,
        "methods": found,
        "versions": {"collm side": {name: about[name] for name in ("torch", "transformers")}, "comlrl side": versions},
    }
    write_result(result, about, chosen.out or default_out(chosen))


if __name__ == "__main__":
    main()
