"""Settings that do not fit together."""

from __future__ import annotations


class Contradiction(ValueError):
    """Raised by a section's validator where its values do not fit together; `keys` names them relative to the section."""

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys
