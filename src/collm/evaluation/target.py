"""What `collm eval` is asked to evaluate: a run folder, or models on a task."""

from __future__ import annotations

from pathlib import Path

from collm.config.rundir import existing_run
from collm.config.tree import TASKS
from collm.errors import ConfigError, RunFolderError
from collm.evaluation.protocols import PROTOCOLS

EVALUATIONS, EPISODES = "eval.jsonl", "eval_episodes.jsonl"


def run_folder(target: str, protocol: str | None) -> Path | None:
    """The run folder that `target` names, or None where it names a task (a protocol is given then).

    A task's name is a task where a protocol is given and `./name` the folder. Raises RunFolderError for a folder without
    a run, and ConfigError for a task without a protocol.
    """
    path = Path(target)
    is_task = target in TASKS or ":" in target
    if protocol is not None and (is_task or not (path.exists() or "/" in target)):
        return None
    if protocol is None and is_task and not path.exists():
        raise ConfigError(
            f"option --protocol is missing: `collm eval {target} --protocol {'|'.join(PROTOCOLS)}` prompts models that were not trained; "
            "a trained team is evaluated by its run folder, `collm eval RUN_DIR`"
        )
    return check_run(path)


def check_run(folder: Path) -> Path:
    """`folder`, if it holds a run. Raises RunFolderError if not."""
    existing_run(folder)
    if holds_only_evaluation(folder):
        raise RunFolderError(
            f"{folder} holds an evaluation, no run; repeat it with `collm eval TASK --protocol NAME --config {folder / 'config.yaml'}`"
        )
    return folder


def holds_only_evaluation(folder: Path) -> bool:
    """Whether a folder was made by `collm eval` and not by training."""
    return (folder / EPISODES).is_file() and not (folder / "metrics.jsonl").is_file()
