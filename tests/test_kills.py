"""A handful of kills by the harness; `python tests/kill_harness.py --kills 100` does a hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from run_tools import cli_environment


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one():
    command = [sys.executable, str(Path(__file__).parent / "kill_harness.py"), "--kills", "5", "--updates", "4"]
    done = subprocess.run(command, env=cli_environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("EQUAL: 5 kills")
