"""Runs model-written Python programs in separate, confined processes, and judges them by tests that they cannot see.

    with Sandbox() as sandbox:
        verdict = sandbox.run("def inc(x):\\n    return x + 1", ["assert inc(1) == 2"])

What holds and what does not, and how it works: docs/sandbox.md.
"""

from __future__ import annotations

from collm.errors import SandboxError
from collm.sandbox.records import Job, Level, Limits, ProgramStatus, TestResult, TestStatus, Verdict
from collm.sandbox.sandbox import Sandbox, shared_sandbox

__all__ = [
    "Job",
    "Level",
    "Limits",
    "ProgramStatus",
    "Sandbox",
    "SandboxError",
    "TestResult",
    "TestStatus",
    "Verdict",
    "shared_sandbox",
]
