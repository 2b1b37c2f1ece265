"""What a model is, by its configuration alone, and models of that shape without weights."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from collm.errors import ModelError
from collm.models.loading import locate

Kind = Literal["causal", "backbone"]
"""With its LM head (policies, bases that adapters share), or without (a critic of its own)."""
_CLASSES = {"causal": AutoModelForCausalLM, "backbone": AutoModel}


@dataclass(frozen=True, eq=False, slots=True)
class Architecture:
    """A model's name and its transformers configuration, as read from config.json."""

    name: str
    config: PretrainedConfig

    @property
    def layers(self) -> int:
        return self.config.get_text_config().num_hidden_layers

    @property
    def vocabulary(self) -> int:
        return self.config.get_text_config().vocab_size

    def sample_depths(self) -> tuple[int, int]:
        """Two depths whose difference is whole repetitions of the layers' pattern: memory is affine in between and beyond."""
        kinds = list(self.config.get_text_config().to_dict().get("layer_types") or ["full_attention"])
        period = next(p for p in range(1, len(kinds) + 1) if all(k == kinds[i % p] for i, k in enumerate(kinds)))
        step = period * -(-2 // period)
        # A shallow model is traced as it is.
        return (step, 2 * step) if 2 * step < self.layers else (self.layers, self.layers)

    def on_meta(self, kind: Kind, dtype: torch.dtype, depth: int | None = None) -> PreTrainedModel:
        """The model, or its first `depth` layers, in eval mode with parameters that have shapes only.

        Raises ModelError where transformers cannot build it.
        """
        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        if depth is not None:
            kinds = text.to_dict().get("layer_types")
            text.num_hidden_layers = depth
            if kinds:
                text.layer_types = kinds[:depth]
        try:
            with torch.device("meta"):
                return _CLASSES[kind].from_config(config, dtype=dtype).eval()
        except (ValueError, KeyError) as error:
            raise ModelError(f"model {self.name!r} cannot be planned: {str(error).strip().splitlines()[0]}") from error


@cache
def read_architecture(name: str) -> Architecture:
    """The architecture of a built-in model, a Hugging Face folder or a Hub id. Only config.json is read.

    Raises ModelError where it is not there, cannot be read or reached, and where transformers does not know the model type.
    """
    place = locate(name)
    try:
        config = AutoConfig.from_pretrained(place)
    except OSError as error:
        raise ModelError(
            f"the config.json of model {name!r} is neither here nor in the Hub's cache, and the Hub could not be asked; give the path of "
            "a folder that holds it (config.json alone is enough for a plan), such as agents.0.model=PATH, or fetch it once while online: "
            f"hf download {name} config.json"
        ) from error
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"the config.json of model {name!r} cannot be used: {str(error).strip().splitlines()[0]}") from error
    return Architecture(name, config)
