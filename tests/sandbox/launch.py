"""Starts Python scripts in processes of their own, also as an ordinary user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def launch(*arguments: str, as_user: bool = False, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS`, with these tests importable. Skips the test where this process cannot become an ordinary user."""
    command = [sys.executable, *arguments]
    if as_user:
        command = [sys.executable, str(HERE / "as_user.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1] / 'src'}{os.pathsep}{HERE.parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, cwd="/")
    if as_user and done.returncode == 77:
        pytest.skip(f"this process cannot run another as an ordinary user: {done.stderr.strip()}")
    return done
