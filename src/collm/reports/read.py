"""Reading run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from collm.errors import RunFolderError


def rows(run_dir: Path, log: str) -> list[dict[str, Any]]:
    """The rows of one of a run's JSON-lines files. Raises RunFolderError where it is missing or empty."""
    path = run_dir / log
    if not path.is_file():
        raise RunFolderError(f"{path} does not exist; is {run_dir} a run folder?")
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise RunFolderError(f"{path} is empty: the run ended before it wrote any")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RunFolderError(
                f"{path}, line {number}: not JSON ({error}); the run was cut while writing, `collm train --resume {run_dir}` mends it"
            ) from error
    return found
