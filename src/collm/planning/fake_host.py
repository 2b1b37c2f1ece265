"""A host's model made of fake tensors, run by the code that runs the real one.

What differs from the real passes: transformers makes attention masks for fake tensors that it leaves out for real ones,
so that the update's passes get an attention without them; bf16 autocast, which production turns on for a GPU, is turned
on for tensors that say they are on the CPU; policies' passes go through all of the last layer, as trees and long
responses do; and generation goes through transformers' layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from collm.config.schema import LoraConfig
from collm.models.adapters import AdapterSwitch
from collm.models.family_layer import FAMILIES
from collm.models.loading import keeps_plain_kv
from collm.models.passes import DecoderPasses
from collm.models.sequences import Places, TreeLayout
from collm.planning.architecture import Architecture, Kind

_MASKLESS = "collm_plan"


def _causal_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
    return sdpa_attention_forward(module, query, key, value, mask, **options)


def _mask_of_windows_only(*args: Any, local_size: int | None = None, **options: Any) -> Tensor | None:
    return None if local_size is None else sdpa_mask(*args, local_size=local_size, **options)


AttentionInterface.register(_MASKLESS, _causal_attention)
AttentionMaskInterface.register(_MASKLESS, _mask_of_windows_only)


class FakePasses(DecoderPasses):
    """The production passes over a fake model; `bf16` computes as on a GPU."""

    def __init__(self, model: PreTrainedModel, bf16: bool, logits_are_heads: bool) -> None:
        self.bf16 = bf16
        self._logits_are_heads = logits_are_heads
        super().__init__(model, torch.device("cpu"))
        # Whether lean passes fit is found out by their numbers, which fake tensors have not;
        # in generation they take no more than the model's own.
        self._lean_fits = False
        uses_sdpa = model.config._attn_implementation in ("sdpa", _MASKLESS)
        self._layers_fit = type(self.backbone) in FAMILIES and keeps_plain_kv(model) and uses_sdpa
        self._reads_few = False

    def read_few(self) -> None:
        """For values, at few positions of texts that do not branch: the last layer works at these alone where production's does."""
        self._reads_few = True

    def _spares(self, ids_BT: Tensor, places: Places) -> bool:
        return self._reads_few and super()._spares(ids_BT, places)

    @contextlib.contextmanager
    def autocast(self, *, keep_casts: bool = True) -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=keep_casts):
            yield

    @property
    def scores_in_blocks(self) -> bool:
        """Whether the LM head is one linear layer, which scores responses in blocks of the vocabulary where nothing truncates."""
        return self._linear_head is not None

    def _head_is_all_there_is(self) -> bool:
        return self._logits_are_heads


@cache
def logits_are_heads(architecture: Architecture) -> bool:
    """Whether a causal model's logits are its LM head's. Fake logits cannot be compared; the operations that make them can."""
    model = architecture.on_meta("causal", torch.float32, architecture.sample_depths()[0])
    output, backbone = model.get_output_embeddings(), cast("PreTrainedModel", model.base_model)
    if not isinstance(output, nn.Module):
        return False
    mode = FakeTensorMode()
    _to_fake(model, mode)
    with mode:
        ids = torch.ones(1, 4, dtype=torch.long)
        direct = _operations(lambda: model(input_ids=ids, use_cache=False).logits)
        by_head = _operations(lambda: output(backbone(input_ids=ids, use_cache=False).last_hidden_state))
    return [op for op in direct if op not in _VIEWS] == [op for op in by_head if op not in _VIEWS]


_VIEWS = ("aten.slice.Tensor", "aten.alias.default", "aten.view.default")


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _operations(run: Callable[[], object]) -> list[str]:
    with _Recorder() as recorder:
        run()
    return [name for name in recorder.names if name.startswith("aten.")]


class FakeHost:
    """A model of `depth` layers with all weights' gradients in place, or with one fresh adapter per entry of `loras`.

    `mode` is the fake mode in which all its passes must run.
    """

    def __init__(
        self,
        architecture: Architecture,
        kind: Kind,
        dtype: torch.dtype,
        depth: int,
        loras: tuple[LoraConfig, ...],
        *,
        bf16: bool,
        checkpointing: bool,
        use: Literal["update", "generate"],
    ) -> None:
        self.mode = FakeTensorMode()
        self.model = architecture.on_meta(kind, dtype, depth)
        self.switch = AdapterSwitch(self.model) if loras else None
        if self.switch is not None:
            for i, lora in enumerate(loras):
                self.switch.add(f"member_{i}", lora, seed=i)
        if checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self.model.train()
        self._maskless = use == "update"
        self._logits_are_heads = kind == "causal" and logits_are_heads(architecture)
        self._frozen_twin = lambda: architecture.on_meta(kind, dtype, depth).requires_grad_(False)
        self.passes = self._passes_of(self.model, bf16)

    def held(self) -> list[Tensor]:
        """Every tensor of the model: what a pass does not allocate."""
        found: list[Tensor] = [*self.model.parameters(), *self.model.buffers()]
        return found + [p.grad for p in self.model.parameters() if p.grad is not None]

    def frozen_copy(self) -> FakePasses:
        """The reference policy of full tuning, as the real host makes it."""
        return self._passes_of(self._frozen_twin(), self.passes.bf16)

    def base_positions_and_head(
        self, ids_BT: Tensor, places: Places, tree: TreeLayout | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The reference policy of adapters: the base with all of them off."""
        assert self.switch is not None
        with self.switch.off():
            return self.passes.positions_and_head(ids_BT, places, tree)

    def _passes_of(self, model: PreTrainedModel, bf16: bool) -> FakePasses:
        # A model that cannot use sdpa keeps its own attention, whose masks are real.
        if self._maskless and model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(_MASKLESS)
        _to_fake(model, self.mode)
        with self.mode:
            return FakePasses(model, bf16, self._logits_are_heads)


def _to_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Put fake CPU tensors in place of the model's shapes; what was tied stays tied."""
    made: dict[int, nn.Parameter] = {}
    with mode:
        for module in model.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                if id(p) not in made:
                    made[id(p)] = nn.Parameter(_same_shape(p), requires_grad=p.requires_grad)
                setattr(module, name, made[id(p)])
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, _same_shape(buffer))


def _same_shape(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
