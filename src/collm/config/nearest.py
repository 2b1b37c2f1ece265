"""The valid name a person most likely meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from collm.config.tree import Node, Path, walk


def nearest(name: str, valid: Iterable[str]) -> str:
    """The member of `valid` (not empty) that is most like `name`."""
    return max(valid, key=lambda candidate: _likeness(name.lower(), candidate.lower()))


def nearest_key(root: Node, path: Path) -> str:
    """The full valid key most like `path`; list indices are kept (0 where `path` has none).

    A key counts by the whole of it and by its last part, so that `learning_rate` finds `critic.optimizer.learning_rate`
    and `agents.1.modle` finds `agents.1.model`.
    """
    indices = [str(part) for part in path if str(part).isdigit()]
    wanted = tuple("*" if str(part).isdigit() else str(part) for part in path)

    def score(candidate: tuple[str, ...]) -> float:
        last = 1.0 if wanted[-1] == _initials(candidate[-1]) else _likeness(wanted[-1], candidate[-1])
        return _likeness(".".join(wanted), ".".join(candidate)) + last

    best = max(walk(root), key=score)
    return ".".join((indices.pop(0) if indices else "0") if part == "*" else part for part in best)


def _likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_"))
