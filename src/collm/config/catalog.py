"""What there is to choose from: tasks, methods, presets and built-in models, for `collm list`."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from collm.config import presets
from collm.config.tree import TASKS

TINY_MODELS = Path(__file__).parents[1] / "models" / "tiny"
"""The built-in models, one Hugging Face folder each; read as files, so that listing them needs no torch."""


@dataclass(frozen=True)
class Entry:
    """One name a person can type, and what it stands for."""

    name: str
    description: str


def tasks() -> list[Entry]:
    """Every task, and the way to name one's own."""
    named = [Entry(name, " ".join((section.__doc__ or "").split())) for name, section in TASKS.items()]
    return [*named, Entry("pkg.module:Class", "Your own environment by its import path: short for custom with task.env.")]


def methods() -> list[Entry]:
    """Every method."""
    return [Entry(name, presets.method_preset(name).description) for name in presets.methods()]


def task_presets() -> list[Entry]:
    """Every preset, by the task and the word for `--preset`."""
    found = []
    for task in TASKS:
        for preset in presets.task_presets(task):
            found.append(Entry(f"{task} --preset {preset.name.removeprefix(f'{task}-')}", preset.description))
    return found


def models(folder: Path = TINY_MODELS) -> list[Entry]:
    """Every built-in model."""
    return [Entry(file.parent.name, _model(file)) for file in sorted(folder.glob("*/config.json"))]


def _model(config_file: Path) -> str:
    config = json.loads(config_file.read_text(encoding="utf-8"))
    shape = f"{config['model_type']}, {config['num_hidden_layers']} layers of {config['hidden_size']}, vocabulary {config['vocab_size']}"
    weights = config_file.with_name("model.safetensors")
    if not weights.is_file():
        return f"{shape}; incomplete: it has no model.safetensors"
    return f"{shape}, {_parameters(weights) / 1e6:.2f} million parameters"


def _parameters(weights: Path) -> int:
    """The number of weights by a safetensors file's header: its length in 8 bytes, then JSON."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
