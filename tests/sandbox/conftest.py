"""A sandbox for all tests of this folder."""

from __future__ import annotations

import pytest

from collm.sandbox import Sandbox, SandboxError


@pytest.fixture(scope="session")
def box():
    """At the default level; tests are skipped where this machine does not give it."""
    try:
        sandbox = Sandbox(workers=2)
    except SandboxError as error:
        pytest.skip(str(error))
    with sandbox:
        yield sandbox
