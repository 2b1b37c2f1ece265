"""A machine without a network: packages out of a folder of wheels. Imports nothing but the standard library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bring(wheels: Path, target: Path) -> None:
    """Install every wheel of a folder into `target` and import from there first. Raises SystemExit where there is none."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise SystemExit(f"{wheels} holds no wheels")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--target",
        str(target),
        *files,
    ]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(target))
