"""Kills a training run again and again, resumes it each time, and compares the end with a run never interrupted.

    python tests/kill_harness.py --kills 100 [--seed 0] [--updates 60] [--tuning full|lora] [--keep FOLDER]

What is real: every sitting runs the command line's own `collm train ...` or `collm train --resume ...` in a process of
its own, on model folders and a run folder on disk, and ends by SIGKILL at a moment the process knows nothing of. The
uninterrupted run, and about one killed sitting in twenty (those die during imports as well), are fresh
`python -m collm.cli.main` processes. The other sittings are forked from this process, which has imported collm but has
never computed anything and has one thread (checked), so that a sitting costs a fork and not seconds of imports.

Kills are spread over the whole run: evenly by updates done, at random times, and part of them aimed at the moments that
hurt - as soon as a checkpoint, a log or the final models are seen being written, within a few milliseconds.
Power loss is not simulated: what a killed process had handed to the kernel stays.

Compared bit for bit: metrics.jsonl (less times and memory), eval.jsonl, episodes.jsonl, every file of the final models,
and the last checkpoint with weights, optimizers, replay buffer and counters. The exit code is 1 on any difference.
"""

from __future__ import annotations

import os

# Before numpy and torch are imported: threads started by a library would not survive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import collm.api  # noqa: F401  (imported here so that the forked sittings need not)
from collm.cli.main import app_main
from collm.config.load import dump

sys.path.insert(0, str(Path(__file__).parent))
from run_tools import agent, cli_environment, differences, model_folder, toy_config

LIMIT = 300.0
"""Seconds after which a sitting that neither ended nor was killed counts as hung."""


@dataclass
class Sitting:
    """One process training in the run folder."""

    pid: int
    log: Path
    status: int | None = None

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def kill(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]

    @property
    def killed(self) -> bool:
        return self.status is not None and os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


@dataclass
class Harness:
    """The uninterrupted run, and one that is killed."""

    work: Path
    updates: int
    tuning: str
    rng: random.Random
    cores: list[int]
    start_seconds: float = 1.0
    fresh_start_seconds: float = 6.0
    update_seconds: float = 0.5
    found: Counter[str] = field(default_factory=Counter)

    # -- the runs --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Models and configuration. In a process of its own: this one must not compute."""
        pid = os.fork()
        if pid == 0:
            _in_child(self._write_config)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit("the models could not be made")

    def _write_config(self) -> None:
        qwen, llama = model_folder(self.work / "qwen3"), model_folder(self.work / "llama", "llama", 1)
        slow = {"tuning": self.tuning, "optimizer": {"learning_rate": 1e-3}}
        second = llama if self.tuning == "full" else qwen
        config = toy_config(
            [agent(qwen, **slow), agent(second, **slow)],
            slow,
            replay={"max_policy_lag": 2},
            algorithm={"epochs": 2, "minibatch": 6},
            training={"updates": self.updates, "episodes_per_update": 2},
            evaluation={"every": max(2, self.updates // 8)},
            logging={"tensorboard": True},
        )
        (self.work / "config.yaml").write_text(dump(config), encoding="utf-8")

    def command(self, run: Path) -> list[str]:
        """What a person would type next."""
        if (run / "config.yaml").exists():
            return ["train", "--resume", str(run)]
        return ["train", "custom", "--config", str(self.work / "config.yaml"), "--run-dir", str(run)]

    def start(self, run: Path, fresh_process: bool) -> Sitting:
        log = self.work / "output.txt"
        arguments = self.command(run)
        if fresh_process:
            with log.open("w") as out:
                command = [sys.executable, "-m", "collm.cli.main", *arguments]
                process = subprocess.Popen(command, env=cli_environment(), stdout=out, stderr=out, preexec_fn=self._pin)
            process.returncode = 0  # Sitting waits for it
            return Sitting(process.pid, log)
        assert len(os.listdir("/proc/self/task")) == 1, "a process that forks must have one thread"
        pid = os.fork()
        if pid == 0:
            self._pin()
            with log.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            _in_child(lambda: app_main(arguments))
        return Sitting(pid, log)

    def _pin(self) -> None:
        os.sched_setaffinity(0, self.cores)

    def to_the_end(self, run: Path, fresh_process: bool) -> None:
        """A sitting that nothing disturbs."""
        sitting = self.start(run, fresh_process)
        self._wait(sitting, lambda: False)
        self._expect_success(sitting)

    def uninterrupted(self, run: Path) -> None:
        """The run that the killed ones are compared with, which tells how long a fresh process takes to start as well."""
        begun = time.monotonic()
        sitting = self.start(run, fresh_process=True)
        self._wait(sitting, lambda: (run / "config.yaml").exists())
        self.fresh_start_seconds = time.monotonic() - begun
        self._wait(sitting, lambda: False)
        self._expect_success(sitting)
        print(f"uninterrupted run: {self.updates} updates in {time.monotonic() - begun:.1f} s", flush=True)

    def calibrate(self) -> None:
        """How long a forked sitting takes to start and an update to be made, from a short run of its own."""
        begun = time.monotonic()
        run = self.work / "calibration"
        sitting = self.start(run, False)
        self._wait(sitting, lambda: (run / "config.yaml").exists())
        self.start_seconds = time.monotonic() - begun
        self._wait(sitting, lambda: _rows(run) >= 1)
        first = time.monotonic()
        self._wait(sitting, lambda: _rows(run) >= 4)
        self.update_seconds = (time.monotonic() - first) / 3
        sitting.kill()
        print(
            f"a fresh process starts in {self.fresh_start_seconds:.2f} s, a forked sitting in {self.start_seconds:.2f} s, "
            f"an update takes {self.update_seconds:.2f} s",
            flush=True,
        )

    # -- killing ---------------------------------------------------------------------------------------------------

    def kill_once(self, run: Path, share: float) -> bool:
        """One sitting that is killed when about `share` of the updates should be done; False if it ended by itself before."""
        before, done = _traces(run), _checkpointed(run)
        behind = share * self.updates - done
        aim, moment = self._aim(run, behind)
        fresh_process = aim == "fresh"
        sitting = self.start(run, fresh_process)
        self._wait(sitting, moment)
        sitting.kill()
        if not sitting.killed:
            self._expect_success(sitting)
            return False
        self._note(run, before)
        return True

    def _aim(self, run: Path, behind: float) -> tuple[str, Callable[[], bool]]:
        """What to wait for: a time, or a moment that hurts. With nothing to catch up on it comes before any progress is kept."""
        done = _checkpointed(run)
        ahead = max(0, round(behind))
        latest = min(done + self.rng.randint(0, 2 * ahead), self.updates - 1)
        if self.rng.random() < 0.05:
            return "fresh", self._after(self.rng.uniform(0.0, 1.2 * self.fresh_start_seconds))
        if done >= self.updates:
            if self.rng.random() < 0.3:
                return "time", self._after(self.rng.uniform(0.0, self.start_seconds))
            member = self.rng.choice(["agent_0", "agent_1", "critic"])
            return "final", self._soon_after((run / "final" / f".writing-{member}").exists, 0.003)
        aim = self.rng.choice(["time", "time", "checkpoint", "log"] if behind > 0 else ["time", "checkpoint", "log"])
        if aim == "checkpoint":
            half = run / "checkpoints" / f".writing_{latest + 1:06d}"
            return aim, self._soon_after(lambda: half.exists() or _checkpointed(run) > latest, 0.006)
        if aim == "log":
            size = _log_bytes(run)
            return aim, self._soon_after(lambda: _checkpointed(run) >= latest and _log_bytes(run) != size, 0.003)
        late = self._after(self.rng.uniform(0.0, self.start_seconds + (2 * ahead + 1) * self.update_seconds))
        return aim, lambda: late() or _checkpointed(run) > latest + 1

    def _after(self, seconds: float) -> Callable[[], bool]:
        until = time.monotonic() + seconds
        return lambda: time.monotonic() >= until

    def _soon_after(self, seen: Callable[[], bool], at_most: float) -> Callable[[], bool]:
        pause = self.rng.uniform(0.0, at_most)

        def due() -> bool:
            if not seen():
                return False
            time.sleep(pause)
            return True

        return due

    def _wait(self, sitting: Sitting, moment: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT
        while not sitting.poll() and not moment():
            if time.monotonic() > until:
                sitting.kill()
                raise SystemExit(f"a sitting hung for {LIMIT:.0f} seconds:\n{sitting.log.read_text()}")
            time.sleep(0.0003)

    def _expect_success(self, sitting: Sitting) -> None:
        if sitting.status != 0:
            raise SystemExit(f"FAILED: a sitting ended by itself with status {sitting.status}:\n{sitting.log.read_text()}")

    def _note(self, run: Path, before: tuple[object, ...]) -> None:
        """What the kill left behind."""
        if not (run / "config.yaml").exists():
            self.found["before the run folder was a run"] += 1
        elif _traces(run) == before:
            self.found["before anything was written"] += 1
        elif any((run / "final").glob(".writing-*")) or (
            _checkpointed(run) >= self.updates and len(list((run / "final").glob("[!.]*"))) < 3
        ):
            self.found["final models half written"] += 1
        elif any((run / "checkpoints").glob(".writing_*")):
            self.found["a checkpoint half written"] += 1
        elif _rows(run) > max(0, _checkpointed(run)):
            self.found["logs written past the checkpoint"] += 1
        elif _checkpointed(run) < 0:
            self.found["before the first checkpoint"] += 1
        else:
            self.found["between writes"] += 1


def _in_child(work: Callable[[], None]) -> None:
    """Run `work` as the whole of a forked process; never returns."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        # Also after an error, whose traceback is printed first: the child must not go on with the parent's work.
        if code == 1 and (error := sys.exc_info()[1]) is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _rows(run: Path) -> int:
    return (run / "metrics.jsonl").read_bytes().count(b"\n") if (run / "metrics.jsonl").exists() else 0


def _log_bytes(run: Path) -> int:
    return sum(p.stat().st_size for p in run.glob("*.jsonl"))


def _checkpointed(run: Path) -> int:
    """Updates in the newest complete checkpoint; -1 where there is none."""
    return max((int(p.name.removeprefix("update_")) for p in (run / "checkpoints").glob("update_*")), default=-1)


def _traces(run: Path) -> tuple[object, ...]:
    """Enough of the folder to see that something was written."""
    final = sorted((run / "final").glob("*"))
    return _log_bytes(run), sorted(p.name for p in (run / "checkpoints").glob("*")), [(p.name, p.stat().st_mtime_ns) for p in final]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill a run again and again; its end must equal that of an undisturbed one")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--updates", type=int, default=60, help="length of the run")
    parser.add_argument("--tuning", choices=["full", "lora"], default="full")
    parser.add_argument("--keep", type=Path, help="work here and leave the runs in place")
    options = parser.parse_args(argv)
    begun = time.monotonic()
    # Adapters on one base are one host: more than one core would only make its small matrices wait for each other.
    cores = sorted(os.sched_getaffinity(0))[: 2 if options.tuning == "full" else 1]
    with tempfile.TemporaryDirectory() as scratch:
        work = options.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        harness = Harness(work.resolve(), options.updates, options.tuning, random.Random(options.seed), cores)
        harness.prepare()
        harness.uninterrupted(work / "whole")
        harness.calibrate()
        kills, runs = 0, [work / "killed-1"]
        while kills < options.kills:
            # The last tenth of the kills is for the end: final evaluation, last checkpoint, final models.
            if harness.kill_once(runs[-1], (kills + 1) / (0.9 * options.kills)):
                kills += 1
                if kills % max(1, options.kills // 20) == 0:
                    print(f"{kills} kills, {max(0, _checkpointed(runs[-1]))} updates done, {time.monotonic() - begun:.0f} s", flush=True)
            else:
                print(f"the run came to its end after {kills} kills; the next ones go to another run of the same configuration", flush=True)
                runs.append(work / f"killed-{len(runs) + 1}")
        harness.to_the_end(runs[-1], fresh_process=False)
        for what, count in harness.found.most_common():
            print(f"  {count:4d} killed {what}")
        found = {run.name: differences(work / "whole", run) for run in runs}
    for run, lines in found.items():
        for line in lines[:20]:
            print(f"{run}: {line}")
    where = f"{kills} kills in {len(runs)} run{'s' if len(runs) > 1 else ''}, {time.monotonic() - begun:.0f} s"
    if any(found.values()):
        print(f"DIFFERENT: {where}: the killed run does not equal the uninterrupted one")
        return 1
    print(f"EQUAL: {where}: metrics, evaluations, episodes, final weights, optimizers and buffer, bit for bit")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
