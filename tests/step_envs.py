"""Environments that misbehave in a step, importable by worker processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from toy_envs import LettersEnv

from collm.errors import DataError


class TwoPartError(Exception):
    """Cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class TrickEnv(LettersEnv):
    """Does what its first agent says."""

    worker_steps = True

    def __init__(self, file: str = "") -> None:
        super().__init__(1, 3)
        self.file = file
        self.kept: object = None

    def step(self, actions):
        text = actions["agent_0"]
        match text:
            case "raise":
                raise ZeroDivisionError("no reward today")
            case "raise ours":
                raise DataError("a row too many")
            case "raise oddly":
                raise TwoPartError(1, 2)
            case "exit":
                os._exit(3)
            case "quit":
                sys.exit(4)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave a child behind":
                if os.fork() == 0:
                    time.sleep(30)
                    os._exit(0)
                os._exit(3)
            case "keep a lambda":
                self.kept = lambda: None
            case "spin":
                Path(self.file).write_text(str(os.getpid()))
                while True:
                    pass
        result = super().step(actions)
        return *result[:4], {"agent_0": {"details": {"pid": os.getpid(), "torch": "torch" in sys.modules, "session": os.getsid(0)}}}


class UnknownThereEnv(LettersEnv):
    """Cannot be unpickled."""

    def __setstate__(self, state):
        raise RuntimeError("not in this process")


class UnsendableEnv(LettersEnv):
    worker_steps = False


class WaitingLettersEnv(LettersEnv):
    concurrent_steps = True


class TellingLetters(LettersEnv):
    """Says where it was stepped."""

    worker_steps = True

    def step(self, actions):
        answer = super().step(actions)
        for info in answer[-1].values():
            info["details"] = {"process": os.getpid()}
        return answer


class FailingLetters(LettersEnv):
    worker_steps = True

    def step(self, actions):
        if self._turn == 1:
            raise RuntimeError("no reward today")
        return super().step(actions)


class DyingLetters(LettersEnv):
    worker_steps = True

    def step(self, actions):
        os._exit(3)
