"""What a worker process does: it takes an environment and the agents' texts, steps it and gives it back, one at a time.

It keeps nothing from one step to the next, so that any worker can take any step. What can fail for a reason of the
environment's own is sent back; where the parent ends, so does the worker.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from collm.rollout.outcome import step_env


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no outcome."""

    doing: Literal["unpickle", "step", "pickle"]
    said: str
    """The error in one line."""
    trace: str
    error: bytes | None
    """The error itself, where it can be pickled."""


def main(fd: int, parent: int) -> None:
    """Answer requests until the parent hangs up, with an empty one, or is gone."""
    os.set_inheritable(fd, False)
    if sys.platform == "linux":
        from collm.sandbox.jail.confine import die_with_parent

        # In the middle of a step too, whatever that step is doing; elsewhere the worker ends with the step.
        die_with_parent(parent)
    connection = Connection(fd)
    while True:
        try:
            request = connection.recv_bytes()
            if not request:
                return
            connection.send_bytes(answer(request))
        except (EOFError, ConnectionError):
            return


def answer(request: bytes) -> bytes:
    """A pickled Outcome, or Failure, of a pickled (environment, texts, keep_cut)."""
    doing: Literal["unpickle", "step", "pickle"] = "unpickle"
    try:
        env, texts, keep_cut = pickle.loads(request)
        doing = "step"
        outcome = step_env(env, texts, keep_cut)
        doing = "pickle"
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        said = "".join(traceback.format_exception_only(error)).strip()
        return pickle.dumps(Failure(doing, said, traceback.format_exc(), _portable(error)))


def _portable(error: Exception) -> bytes | None:
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # an __init__ of several arguments only fails here
    except Exception:  # noqa: BLE001 - then its text has to do
        return None
    return packed
