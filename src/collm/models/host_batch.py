"""Conversations that come and go on one host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from collm.models.generation import Answer, GenerationRequest, LiveBatch

if TYPE_CHECKING:
    from collm.models.host import Host


class HostBatch:
    """Conversations being answered on one host; those of members that cannot share a pass are answered one member at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._batches: dict[str, LiveBatch] = {}

    def __len__(self) -> int:
        """Conversations that have no answer yet."""
        return sum(len(batch) for batch in self._batches.values())

    @property
    def fed_tokens(self) -> int:
        """Tokens that the model has read, padding left out."""
        return sum(batch.fed_tokens for batch in self._batches.values())

    def admit(self, requests: Sequence[GenerationRequest]) -> None:
        """Take conversations in."""
        shares = self._host.mixes_adapters
        groups: dict[str, list[GenerationRequest]] = {}
        for request in requests:
            groups.setdefault("" if shares else request.member, []).append(request)
        with self._host.generating():
            for name, group in groups.items():
                if name not in self._batches:
                    self._batches[name] = LiveBatch(self._host.decoder())
                self._batches[name].admit(group)

    def decode(self, steps: int | None = None) -> list[Answer]:
        """Up to `steps` further tokens for each (None: until all have ended); the answers that are finished, each once."""
        with self._host.generating():
            return [answer for batch in self._batches.values() for answer in batch.decode(steps)]
