"""Decoding steps recorded once and replayed, for a GPU that would wait for Python at each of a step's hundreds of operations.

A recording is of one batch: it reads and writes that batch's own tensors, so whatever a step must know (the column that is
next, which rows have ended) is on the device, and attention goes over the buffers as far as they reach.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from collm.models.decode_step import DecodeStep, has_plain_layers
from collm.models.kv import BufferedLayer, buffered, drop_columns
from collm.models.rows import Rows

if TYPE_CHECKING:
    from collm.models.passes import DecoderPasses

Record = Callable[[Callable[[], object]], Callable[[], object]]
"""Takes a function that works on tensors that stay where they are and gives one that does the same work again, without running it."""


def cuda_graph(work: Callable[[], object], stream: torch.cuda.Stream) -> Callable[[], object]:
    """`work` as a CUDA graph, recorded on a stream of its own; what it allocates lives as long as the graph.

    No other thread may use a GPU meanwhile.
    """
    # What the allocator holds for others is not to be had within a recording.
    torch.cuda.empty_cache()
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            # Nothing else could run on a stream that is still recording. Ending what was broken off complains, too; what broke it
            # is raised.
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    current.wait_stream(stream)
    return graph.replay


def graphs_on(device: torch.device) -> Record | None:
    """What records steps on a device; None where there are no graphs."""
    return partial(cuda_graph, stream=torch.cuda.Stream(device)) if device.type == "cuda" else None


class FixedStep:
    """One step of a batch: make a column, read it, sample. Nothing in it depends on what the host knows.

    `step` must hold the weights in the type in which they are used: one that autocast made would be gone before a replay.
    """

    def __init__(self, step: DecodeStep, rows: Rows) -> None:
        self._step, self._rows = step, rows
        self._column_1 = torch.full((1,), rows.width, dtype=torch.long, device=rows.mask_BL.device)
        self._caches = [_FixedLayer(layer, self._column_1) for layer in buffered(rows.cache)]
        # No row is longer than its buffer. The step may replace its tables by longer ones later; a recording reads these.
        step.reserve(rows.mask_BL.shape[1])
        self._tables = step.tables
        self.logits_BV: Tensor | None = None
        """What the step before gave; of a recording, the tensor into which every replay writes."""

    def __call__(self) -> None:
        rows, state = self._rows, self._rows.state
        rows.mask_BL.index_copy_(1, self._column_1, (~state.done_B).to(rows.mask_BL.dtype)[:, None])
        self.logits_BV = self._step.logits_into(state.token_B, state.position_B, rows.mask_BL, self._caches)
        rows.advance(self.logits_BV)
        self._column_1.add_(1)

    def moved(self) -> list[Tensor]:
        """What a step changes by what had ended before it, whatever is drawn."""
        return [self._column_1, self._rows.mask_BL, self._rows.state.position_B, self._rows.state.count_B]

    def state(self) -> list[Tensor]:
        """All that a step changes, but keys and values, which it writes anew from the same place."""
        s = self._rows.state
        return [*self.moved(), s.token_B, s.done_B, s.ids_BT, s.logprob_BT, s.mass_BT]

    def restore(self, state: list[Tensor]) -> None:
        """Back to what `state` was, copied."""
        for now, then in zip(self.state(), state, strict=True):
            now.copy_(then)


class RecordedStep:
    """A batch's step as a recording, which has shown once that a replay does what a step does.

    `is_current` tells whether the weights are still those that it holds; with others it must not be called.
    """

    def __init__(self, fixed: FixedStep, rows: Rows, replay: Callable[[], object], is_current: Callable[[], bool]) -> None:
        # A graph knows addresses alone: whose memory they are has to be kept.
        self._fixed, self._rows, self._replay = fixed, rows, replay
        self.is_current = is_current

    def __call__(self) -> None:
        """One step; the host's own counts of columns follow."""
        self._replay()
        self._rows.width += 1
        for layer in buffered(self._rows.cache):
            layer.length += 1


class StepRecorder:
    """Records steps of batches on one host, whose layers must be weights alone and whose decoding step is collm's own."""

    def __init__(self, passes: DecoderPasses, record: Record) -> None:
        self._passes, self._record = passes, record
        self._step: DecodeStep | None = None
        self._gave_up = False

    def recorded(self, rows: Rows) -> RecordedStep | None:
        """A recording of this batch's step; None for a model that it does not fit or where recording has failed, of which it warns once."""
        if self._gave_up or not self._passes.decodes_itself or not has_plain_layers(self._passes.model):
            return None
        with self._passes.autocast(keep_casts=False):
            kind = self._passes.device.type
            if self._step is None:
                self._step = DecodeStep(self._passes.model, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
            try:
                found = self._recorded(self._step, rows)
                reason = "a replay gave something else than the step"
            except RuntimeError as error:
                # Also where memory does not suffice: a recording needs some of its own, plain steps may go on.
                found, reason = None, str(error)
        if found is None:
            self._gave_up, self._step = True, None
            warnings.warn(f"decoding goes on without CUDA graphs: {reason}", stacklevel=2)
        return found

    def weights_changed(self) -> None:
        """To be called before weights change: gives up what was made of them. Recordings made before are no longer current."""
        self._step = None

    def _recorded(self, step: DecodeStep, rows: Rows) -> RecordedStep | None:
        """A recording of the batch's step, the batch as it was; None where a replay does not give what a plain step gives.

        Whatever recording raises is passed on.
        """
        fixed = FixedStep(step, rows)
        before = [t.clone() for t in fixed.state()]
        try:
            plain_BV = self._plain_logits(rows)
            fixed.restore(before)
            # Also what libraries set up at their first call, which a recording must not hold.
            fixed()
            moved = [t.clone() for t in fixed.moved()]
            fixed.restore(before)
            replay = self._record(fixed)
            replay()
            assert fixed.logits_BV is not None
            same = self._passes.agree(fixed.logits_BV, plain_BV) and all(map(torch.equal, fixed.moved(), moved))
        finally:
            fixed.restore(before)
        return RecordedStep(fixed, rows, replay, lambda: self._step is step) if same else None

    def _plain_logits(self, rows: Rows) -> Tensor:
        """Of the step that comes next, without taking it; the mask's column stays."""
        state = rows.state
        rows.read_column()
        logits_BV = self._passes.last_logits(state.token_B[:, None], rows.mask_BL[:, : rows.width], state.position_B[:, None], rows.cache)
        drop_columns(rows.cache, 1)
        rows.width -= 1
        return logits_BV


class _FixedLayer:
    """A cache layer that is written at a column which the device knows, and read as far as it reaches."""

    def __init__(self, layer: BufferedLayer, column_1: Tensor) -> None:
        self._key, self._value, self._column_1 = layer.key_buffer, layer.value_buffer, column_1

    def append(self, key_BKd: Tensor, value_BKd: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values with this column written, (B, heads, capacity, d)."""
        self._key.index_copy_(2, self._column_1, key_BKd[:, :, None].to(self._key.dtype))
        self._value.index_copy_(2, self._column_1, value_BKd[:, :, None].to(self._value.dtype))
        return self._key, self._value
