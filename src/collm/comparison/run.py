"""Methods against methods at equal env steps: make the runs that are missing, then draw them.

from collm.comparison.plan import Settings
from collm.comparison.run import compare

compare(Settings("strbuild", env_steps=1000), ["magrpo", "collm-cc"], seeds=range(5))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collm.comparison.plan import Settings, plan
from collm.comparison.pool import Watcher, run_all
from collm.reports.comparison import is_finished
from collm.reports.comparison_files import draw, remember


@dataclass(frozen=True)
class Compared:
    """A comparison's folder after a sitting."""

    folder: Path
    finished: int
    """Runs of the plan that are finished, those of earlier sittings included."""
    planned: int
    failed: dict[Path, str] = field(default_factory=dict)
    """Run folder -> what went wrong."""
    stopped_by: str | None = None
    """Name of the signal that stopped it, if one did; the same call continues."""


def compare(
    settings: Settings,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None = None,
    *,
    jobs: int = 1,
    command: str | None = None,
    watcher: Watcher | None = None,
) -> Compared:
    """Make or continue the runs of every method and seed, `jobs` at once, and draw what is finished.

    Finished runs are left alone, begun ones resumed. `folder` defaults to runs/compare-TASK-STEPS; `command` is kept in
    comparison.json. Raises ConfigError where the settings do not fit and RunFolderError where the folder's runs were made
    with other ones; what goes wrong in a run is returned.
    """
    folder = folder or settings.default_folder()
    runs = plan(settings, methods, seeds, folder)
    missing = [run for run in runs if not is_finished(run.folder)]
    outcome = run_all(missing, jobs, folder / "logs", watcher or Watcher())
    remember(folder, command, outcome.machine)
    done = len(runs) - len(missing) + len(outcome.finished)
    if done:
        draw(folder)
    return Compared(folder, done, len(runs), outcome.failed, outcome.stopped_by)
