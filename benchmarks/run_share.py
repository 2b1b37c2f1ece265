"""How much of a training run's wall time passes while no model computes, and in what."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console

from collm.config.load import resolve
from collm.evaluation import evaluator
from collm.models.host import Host, HostBatch
from collm.rollout import filling
from collm.training import trainer
from collm.training.display import ConsoleDisplay
from collm.training.run_folder import RunFolder
from collm.training.trackers import Trackers
from collm.training.trainer import Trainer

Interval = tuple[float, float]
MODEL = "model"
WATCHED: list[tuple[str, object, str]] = [
    *((MODEL, Host, name) for name in ("generate", "score", "values", "accumulate_policy", "learn_values", "step")),
    (MODEL, HostBatch, "admit"),
    (MODEL, HostBatch, "decode"),
    ("environment and histories", filling.Filling, "_advance"),
    ("environment and histories", filling, "open_root"),
    ("metrics", trainer, "update_metrics"),
    ("logs", RunFolder, "append"),
    ("checkpoints", RunFolder, "save_checkpoint"),
    ("TensorBoard", Trackers, "__init__"),
    ("TensorBoard", Trackers, "log"),
    ("TensorBoard", Trackers, "close"),
    ("display", ConsoleDisplay, "update"),
    ("display", ConsoleDisplay, "evaluation"),
    ("final models", trainer, "save_final"),
    ("evaluation's summaries", evaluator, "summarise"),
]
"""What is timed: (phase, owner, name of the function). Models work side by side in threads, and while one does nothing else waits."""


class Watch:
    """The intervals of each phase, from whatever thread."""

    def __init__(self) -> None:
        self.intervals: dict[str, list[Interval]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time the functions of `WATCHED` meanwhile."""
        with ExitStack() as patches:
            for phase, owner, name in WATCHED:
                patches.enter_context(patch.object(owner, name, self._timed(phase, getattr(owner, name))))
            yield

    def _timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.intervals.setdefault(phase, []).append((begun, time.perf_counter()))

        return call


def covered(intervals: Sequence[Interval], within: Interval | None = None) -> float:
    """Length of the union of the intervals, inside `within` where that is given."""
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        if within is not None:
            start, stop = max(start, within[0]), min(stop, within[1])
        if stop > max(start, reached):
            total += stop - max(start, reached)
            reached = stop
    return total


def breakdown(intervals: dict[str, list[Interval]], whole: Interval) -> dict[str, Any]:
    """Seconds by phase within `whole` and the share in which no model computes; what no phase claims is "other"."""
    length = whole[1] - whole[0]
    seconds = {phase: covered(some, whole) for phase, some in intervals.items()}
    seconds["other"] = length - covered([i for some in intervals.values() for i in some], whole)
    return {
        "wall_seconds": round(length, 3),
        "seconds": {phase: round(s, 4) for phase, s in sorted(seconds.items(), key=lambda item: -item[1])},
        "share_outside_models": round(1 - seconds.get(MODEL, 0.0) / length, 4),
    }


def measure_run(run_dir: Path, updates: int, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train the default tiny team on StrBuild, everything on as by default, and say where the time went.

    The whole of `Trainer.run` counts: updates, checkpoints, the evaluations before and after, the final models.
    """
    config = resolve("strbuild", overrides=[f"training.updates={updates}", *overrides])
    built = Trainer(config, run_dir, display=ConsoleDisplay(Console(file=io.StringIO())))
    watch, spans = Watch(), []
    one_update = built._one_update

    def noted_update(*args: Any) -> None:
        begun = time.perf_counter()
        one_update(*args)
        spans.append((begun, time.perf_counter()))

    with watch.watching(), patch.object(built, "_one_update", noted_update):
        begun = time.perf_counter()
        built.run()
        whole = (begun, time.perf_counter())
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "task": "strbuild, preset tiny, collm-cc",
        "updates": updates,
        **breakdown(watch.intervals, whole),
        "share_outside_models_within_updates": [breakdown(watch.intervals, span)["share_outside_models"] for span in spans],
        "seconds_by_the_run_s_own_metrics": [{k: round(v, 3) for k, v in row.items() if k.startswith("seconds_")} for row in rows],
    }
