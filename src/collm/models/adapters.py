"""LoRA adapters on a shared frozen base, through peft's functional interface.

The base model stays an ordinary transformers model: peft puts its layers into it, and each forward pass says which
adapter every row uses. Adapters are fp32 whatever the base is stored in.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import set_adapter
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from collm.config.schema import LoraConfig
from collm.errors import ModelError


def _inner(name: str) -> str:
    """The name peft knows an adapter by; the prefix keeps it apart from every module's name."""
    return f"collm_{name}"


class AdapterSwitch:
    """Adds adapters to one base model and selects them, for a whole batch or per row."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._rows: list[str] | None = None
        self._active: str | None = None
        self._hooked: set[int] = set()
        model.requires_grad_(False)

    def add(self, name: str, config: LoraConfig, seed: int) -> list[nn.Parameter]:
        """Inject a fresh adapter (B = 0, so the model is unchanged) and return its parameters.

        Raises ModelError where `config.targets` fits nothing, or something that is not a plain linear layer.
        """
        targets = config.targets if config.targets == "all-linear" else [t.strip() for t in config.targets.split(",")]
        peft_config = PeftLoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=0.0,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Several adapters on one base are the point here.
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            torch.manual_seed(seed)
            try:
                inject_adapter_in_model(peft_config, self._model, adapter_name=_inner(name))
            except ValueError as error:
                raise ModelError(f"lora.targets={config.targets!r} fits no module of {self._model.config.name_or_path}: {error}") from error
        self._active = None
        self._refuse_odd_targets(config.targets)
        for module in self._layers():
            if id(module) not in self._hooked:
                module.register_forward_pre_hook(self._pass_rows, with_kwargs=True)
                self._hooked.add(id(module))
        parameters = [p for n, p in self._model.named_parameters() if f".{_inner(name)}." in n]
        for p in parameters:
            p.data = p.data.float() if p.dtype in (torch.float16, torch.bfloat16) else p.data
        return parameters

    def use(self, name: str) -> None:
        """One adapter for every row of the next passes."""
        self._rows = None
        if self._active != name:
            # Walks the whole model, so not once per token. It marks only the active adapter trainable; the optimizers
            # of the others hold their parameters all the same.
            set_adapter(self._model, _inner(name))
            self._active = name

    @contextmanager
    def off(self) -> Iterator[None]:
        """The frozen base alone, without any adapter: the reference policy (inference only)."""
        layers = [cast("Any", m) for m in self._layers()]
        rows, self._rows = self._rows, None
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            self._rows = rows

    def use_rows(self, names: Sequence[str]) -> None:
        """An adapter per row of the next pass (inference only)."""
        if len(set(names)) == 1:
            self.use(names[0])
        else:
            self._rows = [_inner(name) for name in names]

    def merged_state_dict(self, name: str) -> dict[str, Tensor]:
        """The base's weights with one adapter added in, under the base model's own names; the live base is untouched.

        In fp32 at least: in bf16 most of a small update would be rounded away.
        """
        layers = {n: m for n, m in self._model.named_modules() if isinstance(m, LoraLayer)}
        merged: dict[str, Tensor] = {}
        for key, value in self._model.state_dict().items():
            if "lora_" in key:
                continue
            owner = key.rpartition(".base_layer.")[0]
            value = value.detach().to(torch.promote_types(value.dtype, torch.float32)) if value.is_floating_point() else value
            if owner and key.endswith(".weight") and _inner(name) in layers[owner].lora_A:
                delta = cast("Any", layers[owner]).get_delta_weight(_inner(name))
                value = value + delta.detach().to(value.dtype)
            merged[key.replace(".base_layer.", ".")] = value.clone()
        return merged

    def _refuse_odd_targets(self, targets: str) -> None:
        embeddings = (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        for name, module in self._model.named_modules():
            if isinstance(module, LoraLayer) and (
                not isinstance(module.get_base_layer(), nn.Linear | Conv1D) or any(module is e for e in embeddings)
            ):
                raise ModelError(
                    f"lora.targets={targets!r} reaches {name}, which is an embedding, the LM head or a fused expert; "
                    "adapters go on linear layers only: list their names, such as q_proj,v_proj"
                )

    def _layers(self) -> list[nn.Module]:
        return [m for m in self._model.modules() if isinstance(m, LoraLayer)]

    def _pass_rows(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        return None if self._rows is None else (args, {**kwargs, "adapter_names": self._rows})


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody else watches or changes what a module or one of its parts computes: adapters have hooks of their own."""
    return any((m._forward_hooks or m._forward_pre_hooks) and not isinstance(m, LoraLayer) for m in module.modules())
