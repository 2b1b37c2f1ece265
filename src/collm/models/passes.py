"""Forward passes through a Hugging Face decoder: hidden states, logits and values. Nothing here owns weights."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from collm.errors import ModelError
from collm.models.adapters import has_hooks
from collm.models.decode_step import DecodeStep
from collm.models.family_layer import FAMILIES
from collm.models.fused_head import LinearHead
from collm.models.kv import drop_columns
from collm.models.last_layer import all_states, gathered, last_states, states_at
from collm.models.loading import embedding_rows, keeps_plain_kv
from collm.models.sequences import Places, TreeLayout
from collm.models.tree_attention import NAME as TREE_ATTENTION
from collm.models.tree_attention import Branches

VALUE_HEAD_FILE = "value_head.safetensors"
"""Beside the backbone in a saved critic's folder."""

MASK_ELEMENTS = 1 << 25
"""The largest mask that is made to leave positions out: 128 MB in fp32."""


class ValueHead(nn.Module):
    """Scalar head on [hidden state, m_t as numbers], in at least fp32. Starts at zero, so that V = 0 before training."""

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden + features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_PD: Tensor, features_PF: Tensor) -> Tensor:
        """Values (P,) at P positions."""
        dtype = self.linear.weight.dtype
        return self.linear(torch.cat([hidden_PD.to(dtype), features_PF.to(dtype)], dim=-1))[:, 0]


def load_critic(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, ValueHead]:
    """A saved critic: its backbone, tokenizer and value head. V is the head on the last token's hidden state.

    Raises ModelError if the folder holds no value head.
    """
    if not (folder / VALUE_HEAD_FILE).is_file():
        raise ModelError(f"{folder} holds no {VALUE_HEAD_FILE}; give the final/critic folder of a run")
    backbone = AutoModel.from_pretrained(folder)
    weights = load_file(folder / VALUE_HEAD_FILE)
    hidden = backbone.config.get_text_config().hidden_size
    head = ValueHead(hidden, weights["linear.weight"].shape[1] - hidden)
    head.load_state_dict(weights)
    return backbone, AutoTokenizer.from_pretrained(folder), head


def save_folder(model: PreTrainedModel, weights: dict[str, Tensor], head: ValueHead | None, folder: Path) -> None:
    """Write weights under a model's own names as a Hugging Face folder, a value head beside them."""
    config = copy.deepcopy(model.config)
    # The type of what is written, which for a merged adapter is wider than the live base's.
    config.dtype = next(w.dtype for w in weights.values() if w.is_floating_point())
    model.save_pretrained(folder, state_dict=weights)
    config.save_pretrained(folder)
    if head is not None:
        save_file({k: v.detach().cpu() for k, v in head.state_dict().items()}, folder / VALUE_HEAD_FILE)


class DecoderPasses:
    """Calls one decoder-only model. `model` is a causal LM, or a bare backbone for a critic."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.backbone = cast("PreTrainedModel", model.base_model)
        self.hidden_size: int = model.config.get_text_config().hidden_size
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self._takes_trees: bool | None = None
        # transformers looks whether a mask of two dimensions hides anything, and waits for the device at every token; one of four is used
        # as it is. Without a GPU there is nothing to wait for, and a mask that hides nothing is better left out.
        self.ready_masks = device.type == "cuda" and keeps_plain_kv(model) and self._uses_sdpa
        takes = inspect.signature(self.backbone.forward).parameters
        self._takes_positions = "position_ids" in takes
        # transformers 5.24 renamed it, of some models.
        self._cache_name = "cache" if "cache" in takes else "past_key_values"
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        self._plain_head = self.backbone is not model and self._head_is_all_there_is()
        output = model.get_output_embeddings() if self._plain_head else None
        self._linear_head = LinearHead(output, self.autocast) if type(output) is nn.Linear and not has_hooks(output) else None
        # Of a live model whose owner put hooks on it, modules are called as they are.
        self._hooked = has_hooks(model)
        self._lean_fits = self._plain_head and not self._hooked and DecodeStep.fits(model)
        self._lean_agrees: dict[bool, bool] = {}
        """The verdict on each kind of such pass that was tried: of one column (True), of several (False)."""
        self._step: DecodeStep | None = None
        self._layers_fit: bool | None = None

    @property
    def _uses_sdpa(self) -> bool:
        return self.model.config._attn_implementation in ("sdpa", TREE_ATTENTION)

    def modules_changed(self) -> None:
        """To be called after layers were replaced or adapters added."""
        self._step = None
        self._lean_agrees.clear()
        self._layers_fit = None

    def hidden(self, ids_BT: Tensor, tree: TreeLayout | None = None) -> Tensor:
        """Last hidden states (B, T, D) of right-padded sequences; with `tree` of the one row that it lays out (`takes_trees`)."""
        if not self._computes_layers():
            return self._model_hidden(ids_BT, tree)
        with self.autocast():
            return all_states(self.backbone, ids_BT, tree and Branches.of(tree, self.device))

    def _model_hidden(self, ids_BT: Tensor, tree: TreeLayout | None = None) -> Tensor:
        """`hidden` by the model's own layers."""
        with self.autocast():
            return self.backbone(input_ids=ids_BT, use_cache=False, **self._branching(tree)).last_hidden_state

    def head(self, hidden_TD: Tensor) -> Tensor:
        """Vocabulary logits (T, V) of hidden states; only where the model's logits are its head's (`has_plain_head`)."""
        with self.autocast():
            return cast("nn.Module", self.model.get_output_embeddings())(hidden_TD)

    @property
    def whole_head(self) -> Callable[[Tensor], Tensor]:
        """The head for scoring: one that can work in blocks of the vocabulary, where it is a linear layer."""
        return self._linear_head or self.head

    @property
    def has_plain_head(self) -> bool:
        """Whether logits = head(last hidden state), without soft-capping or scaling."""
        return self._plain_head

    def states(self, ids_BT: Tensor, places: Places, tree: TreeLayout | None = None) -> Tensor:
        """Last hidden states (P, D) at places of `hidden`'s sequences, others where possible not computed."""
        if tree is None and self._spares(ids_BT, places) and self._computes_layers():
            with self.autocast():
                return states_at(self.backbone, ids_BT, places)
        return gathered(self.hidden(ids_BT, tree), places.row_P, places.column_P)

    def _spares(self, ids_BT: Tensor, places: Places) -> bool:
        """Whether it is worth while to leave the other positions out."""
        rows, length = ids_BT.shape
        queries = places.column_BQ.shape[1]
        # Masked attention takes twice the time of causal attention to as many tokens, and a mask.
        return 2 * queries <= length and rows * queries * length <= MASK_ELEMENTS

    def positions_and_head(
        self, ids_BT: Tensor, places: Places, tree: TreeLayout | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What predicts the tokens after places: hidden states (P, D) and the head for them.

        A model that post-processes its logits hands out those logits and the identity instead.
        """
        if self._plain_head:
            return self.states(ids_BT, places, tree), self.whole_head
        with self.autocast():
            logits_BTV = self.model(input_ids=ids_BT, use_cache=False, **self._branching(tree)).logits
            return logits_BTV[places.row_P, places.column_P], _identity

    def _computes_layers(self) -> bool:
        """Whether the layers may be computed here (`last_layer.py`); whether a model's are what they seem is found out by trying."""
        # Train mode is for gradient checkpointing, which recomputes transformers' layers only.
        if self.backbone.training:
            return False
        if self._layers_fit is None:
            self._layers_fit = self._tries_layers()
        return self._layers_fit

    @torch.no_grad()
    def _tries_layers(self) -> bool:
        if self._hooked or type(self.backbone) not in FAMILIES or not keeps_plain_kv(self.model) or not self._uses_sdpa:
            return False
        if any(isinstance(m, GradientCheckpointingLayer) and m.gradient_checkpointing for m in self.model.modules()):
            # Passes in train mode are transformers' then. With others beside them an importance ratio would not start at exactly 1.
            return False
        ids_1T = torch.arange(1, 9, device=self.device)[None] % embedding_rows(self.model)
        places = Places.of([0, 0, 0], [3, 7, 0], 1, self.device)
        own_1TD = self._model_hidden(ids_1T)
        with self.autocast():
            some_PD, all_1TD = states_at(self.backbone, ids_1T, places), all_states(self.backbone, ids_1T, None)
        return self.agree(all_1TD, own_1TD) and self.agree(some_PD, gathered(own_1TD, places.row_P, places.column_P))

    def takes_trees(self) -> bool:
        """Whether the model reads trees of tokens (`tree_attention.py`) as it reads their branches; found out by trying."""
        if self._takes_trees is None:
            self._takes_trees = self._reads_trees()
        return self._takes_trees

    def _branching(self, tree: TreeLayout | None) -> dict[str, Any]:
        if tree is None:
            return {}
        branches = Branches.of(tree, self.device)
        # transformers hands a mask of four dimensions through as it is; the attention function reads the branches instead.
        unread = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        return {"position_ids": branches.position_1T, "attention_mask": unread, "branches": branches}

    @torch.no_grad()
    def _reads_trees(self) -> bool:
        if not (self._takes_positions and keeps_plain_kv(self.model) and self._uses_sdpa):
            return False
        if not self.model._supports_attention_backend:
            return False
        # 1 2 3 with the branches 4 5 and 6.
        tree = TreeLayout((3, 2, 1), (-1, 0, 0), (0, 1, 2, 3, 4, 3), ())
        ids_T = torch.arange(1, 7, device=self.device) % embedding_rows(self.model)
        first_TD = self.hidden(ids_T[None, :5])[0]
        second_TD = self.hidden(ids_T[None, [0, 1, 2, 5]])[0]
        self.model.set_attn_implementation(TREE_ATTENTION)
        try:
            both_TD = self._model_hidden(ids_T[None], tree)[0]
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError):
            both_TD = torch.full_like(first_TD, torch.nan)
        apart_TD = torch.cat([first_TD, second_TD[3:]])
        reads = self.agree(both_TD, apart_TD) and self.agree(self.hidden(ids_T[None], tree)[0], both_TD)
        if not reads:
            self.model.set_attn_implementation("sdpa")
        return reads

    @property
    def decodes_itself(self) -> bool:
        """Whether one token per row goes through `decode_step.py`, which has been tried."""
        return self._lean_fits and self._lean_agrees.get(True, False)

    def last_logits(self, ids_BT: Tensor, mask_BL: Tensor, positions_BT: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) of the last column, with everything in `cache` as context; the cache grows by T."""
        width = ids_BT.shape[1]
        one = width == 1
        if not self._lean_fits or not self._lean_agrees.get(one, True) or (one and cache.get_seq_length() == 0):
            return self._model_logits(ids_BT, mask_BL, positions_BT, cache)
        # On a GPU one waits for the answer: not at every token.
        seen_BL = None if (width > 1 or self.device.type == "cpu") and bool(mask_BL.all()) else mask_BL
        if one not in self._lean_agrees:
            # The first such pass is computed both ways: what follows is done one way or the other.
            found_BV = self._lean_logits(ids_BT, seen_BL, positions_BT, cache)
            drop_columns(cache, width)
            own_BV = self._model_logits(ids_BT, mask_BL, positions_BT, cache)
            self._lean_agrees[one] = self.agree(found_BV, own_BV)
            if not self._lean_agrees[one]:
                return own_BV
            # A run that is resumed tries at another place: no number may depend on where, nor the keys and values that are kept.
            drop_columns(cache, width)
        return self._lean_logits(ids_BT, seen_BL, positions_BT, cache)

    def _lean_logits(self, ids_BT: Tensor, seen_BL: Tensor | None, positions_BT: Tensor, cache: Cache) -> Tensor:
        with self.autocast():
            if ids_BT.shape[1] > 1:
                return self.head(last_states(self.backbone, ids_BT, seen_BL, positions_BT, cache))
            if self._step is None:
                self._step = DecodeStep(self.model)
            return self._step.logits(ids_BT[:, 0], positions_BT[:, 0], seen_BL, cache)

    def _model_logits(self, ids_BT: Tensor, mask_BL: Tensor, positions_BT: Tensor, cache: Cache) -> Tensor:
        extra: dict[str, Any] = {self._cache_name: cache, "use_cache": True}
        if self._takes_positions:
            extra["position_ids"] = positions_BT
        if self.ready_masks and ids_BT.shape[1] == 1:
            mask_BL = mask_BL.bool()[:, None, None, :]
        with self.autocast():
            if self._plain_head:
                out = self.backbone(input_ids=ids_BT, attention_mask=mask_BL, **extra)
                return self.head(out.last_hidden_state[:, -1])
            out = self.model(input_ids=ids_BT, attention_mask=mask_BL, **extra, **self._last_only)
            return out.logits[:, -1]

    def agree(self, found_PD: Tensor, own_PD: Tensor) -> bool:
        """Whether two ways of computing the same differ by no more than rounding explains."""
        with self.autocast():
            narrow = torch.is_autocast_enabled(self.device.type) or own_PD.dtype in (torch.bfloat16, torch.float16)
        own_P = own_PD.norm(dim=-1)
        # Another attention moves a random model's states by little, so the bound is tight. Beside an infinite norm nothing could be told.
        return bool((((found_PD - own_PD).norm(dim=-1) <= (5e-2 if narrow else 3e-4) * own_P) & own_P.isfinite()).all())

    @torch.no_grad()
    def _head_is_all_there_is(self) -> bool:
        ids = torch.arange(1, 5, device=self.device)[None] % embedding_rows(self.model)
        direct = self.model(input_ids=ids, use_cache=False).logits
        by_head = cast("nn.Module", self.model.get_output_embeddings())(self.backbone(input_ids=ids, use_cache=False).last_hidden_state)
        return bool(torch.equal(direct, by_head))

    def autocast(self, *, keep_casts: bool = True) -> contextlib.AbstractContextManager[object]:
        """Compute in bf16 on a GPU. Around many passes it also keeps the cast weights from one pass to the next (`keep_casts`)."""
        # bf16 compute over fp32 weights on a GPU; on the CPU bf16 is slower than fp32 and fp64 is wanted by the tests.
        return (
            torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=keep_casts)
            if self.device.type == "cuda"
            else contextlib.nullcontext()
        )


def _identity(logits: Tensor) -> Tensor:
    return logits
