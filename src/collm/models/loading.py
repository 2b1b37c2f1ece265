"""Finding and loading language models: built-in names, Hugging Face folders and Hub ids."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from collm.errors import ModelError


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A live model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def builtin_folder() -> Path:
    """Where the built-in models lie inside the installed package."""
    return Path(str(resources.files("collm") / "models" / "tiny"))


def locate(model: str) -> str:
    """What to hand to `from_pretrained`: the folder of a built-in model, an existing folder, or a Hub id.

    Raises ModelError for something that looks like a folder and does not exist, or lacks a config.json.
    """
    builtin = builtin_folder() / model
    if (builtin / "config.json").is_file():
        return str(builtin)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model folder {path} has no config.json; it must be a Hugging Face folder (save_pretrained makes one)")
        return str(path)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(
            f"model folder {model} does not exist; give a folder, a Hub id (owner/name) or a built-in name (collm list models)"
        )
    return model


def load_model(name: str, kind: str, dtype: torch.dtype) -> LoadedModel:
    """Load a model and its tokenizer, all dropout off.

    `kind` is "causal" (policies, and bases that adapters share) or "backbone" (a critic of its own: no LM head).
    Raises ModelError naming the model and the mend.
    """
    place = locate(name)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModel
    try:
        config = AutoConfig.from_pretrained(place)
        model = auto.from_pretrained(place, config=_without_dropout(config), dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {name!r} could not be loaded: {_first_line(error)} "
            "(give a Hugging Face folder or Hub id with weights and tokenizer, or a built-in name: collm list models)"
        ) from error
    if model._is_stateful:
        raise ModelError(
            f"model {name!r} keeps a recurrent state; collm generates with attention caches only, use a transformer without such layers"
        )
    for parameter in model.parameters():
        # Away from the memory-mapped file: whoever overwrites the folder must not crash a run that loaded it.
        parameter.data = parameter.data.clone()
    if model.config.model_type == "mpt":
        raise ModelError(f"model {name!r}: MPT counts positions by batch columns, which carried caches move; use another architecture")
    rows = embedding_rows(model)
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {name!r}: its tokenizer has {len(tokenizer)} tokens but the embedding {rows} rows; use the matching tokenizer"
        )
    return LoadedModel(model, tokenizer)


def embedding_rows(model: PreTrainedModel) -> int:
    """How many token ids the model knows."""
    return cast("nn.Embedding", model.get_input_embeddings()).weight.shape[0]


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a response: the generation config's, the model config's and the tokenizer's EOS."""
    ids: set[int] = set()
    generation = model.generation_config.eos_token_id if model.generation_config is not None else None
    for eos in (generation, model.config.get_text_config().eos_token_id, tokenizer.eos_token_id):
        if eos is not None:
            ids.update(int(e) for e in (eos if isinstance(eos, list) else [eos]))
    if not ids:
        raise ModelError(f"model {tokenizer.name_or_path} names no EOS token; set eos_token_id in its generation_config.json")
    return frozenset(ids)


def check_context(model: PreTrainedModel, name: str, key: str, window: int) -> None:
    """Raises ModelError if the model cannot read `window` tokens, the value of configuration key `key`."""
    config = model.config.get_text_config().to_dict()
    limit = config.get("max_position_embeddings") or config.get("n_positions")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        # Such models change all positions once any row of a batch passes the original length.
        limit = rope.get("original_max_position_embeddings") or limit
    if limit is not None and window > limit:
        raise ModelError(f"{key}={window} is more than the {limit} tokens that {name} can read; lower {key}")


def keeps_plain_kv(model: PreTrainedModel) -> bool:
    """Whether every layer keeps keys and values of all tokens, so that a cache may be cut, moved and carried over turns."""
    config = model.config.get_text_config().to_dict()
    kinds = config.get("layer_types") or []
    return set(kinds) <= {"full_attention"} and not (not kinds and config.get("sliding_window"))


def pick_device(device: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r} is not one: {_first_line(error)}; use auto, cpu, cuda or cuda:N") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} asked for, but torch sees no GPU here; use device: auto or cpu")
    return picked


def active_dropout(model: PreTrainedModel) -> str:
    """The first setting by which a model drops units in train mode, such as "attention_dropout=0.1"; empty where there is none."""
    return next((f"{key}={value}" for key, value in _dropout(model.config).items() if value > 0), "")


def _without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    # rho = 1 before the first update only holds if two passes over the same tokens agree.
    for key in _dropout(config):
        setattr(config, key, 0.0)
    return config


def _dropout(config: PretrainedConfig) -> dict[str, float]:
    return {
        key: value for key, value in config.to_dict().items() if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float)
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
