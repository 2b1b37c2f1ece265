"""How many bytes of tensors exist while something runs, and at most.

Works on real tensors and on torch's fake ones, which have shapes, types and storages but no memory: a pass over fake
tensors allocates and frees what the real one would, in the same order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Within the block, `live` is the size of the storages made since it began that still exist, `peak` the most of it.

    Storages of `held` were there before and do not count, nor do changes in place to them. Sizes are tensors' own: what
    an allocator adds by rounding and by holding freed blocks back is not in them.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in held:
            storage = tensor.untyped_storage()
            self._seen[storage._cdata] = weakref.ref(storage, self._forget(storage._cdata, 0))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._seen:
            size = storage.nbytes()
            self._seen[key] = weakref.ref(storage, self._forget(key, size))
            self.live += size
            self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            # The address may be another storage's the moment after.
            del self._seen[key]
            self.live -= size

        return gone
