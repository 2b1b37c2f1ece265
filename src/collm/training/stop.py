"""Stopping on request: SIGINT and SIGTERM end a run at the next safe point."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequested(Exception):
    """Raised at a safe point after SIGINT or SIGTERM."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


class StopSwitch:
    """Remembers that a signal came; `check` raises where the run may be left. A second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def check(self) -> None:
        if self._signal is not None:
            raise StopRequested(self._signal.name)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals meanwhile (in the main thread only: elsewhere Python cannot, and the caller's own handling stays)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
