"""Small runs on a toy environment, and what two runs differ in."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from builders import small_model

from collm.config.load import config_from
from collm.config.schema import Config
from collm.training.metrics import MACHINE_FIELDS

LOGS = ("metrics.jsonl", "eval.jsonl", "episodes.jsonl")


def model_folder(folder: Path, architecture: str = "qwen3", seed: int = 0, **options: Any) -> str:
    """A small random model as a Hugging Face folder."""
    if not (folder / "config.json").is_file():
        loaded = small_model(architecture, seed=seed, **options)
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def agent(model: str, **changes: Any) -> dict[str, Any]:
    """An agent's section: short responses, a learning rate that moves a small model."""
    return {"model": model, "max_new_tokens": 6, "optimizer": {"learning_rate": 0.01}, **changes}


def toy_config(
    agents: Sequence[Mapping[str, Any]], critic: Mapping[str, Any], env_args: Mapping[str, Any] | None = None, **sections: Any
) -> Config:
    """A run of a few updates on `toy_envs:LettersEnv`; `sections` are merged over the small defaults, key by key."""
    values: dict[str, Any] = {
        "task": {"name": "custom", "env": "toy_envs:LettersEnv", "env_args": {"n": len(agents), **(env_args or {})}},
        "agents": list(agents),
        "critic": {"optimizer": {"learning_rate": 0.01}, **critic},
        "training": {"updates": 4, "episodes_per_update": 3},
        "evaluation": {"every": 2, "sampled_episodes": 3, "bootstrap": 100},
        "logging": {"tensorboard": False},
    }
    for key, value in sections.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    return config_from(values)


def log_rows(run_dir: Path, log: str) -> list[dict[str, Any]]:
    """A log's rows without the fields that name times or memory."""
    rows = [json.loads(line) for line in (run_dir / log).read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(MACHINE_FIELDS)} for row in rows]


def final_digests(run_dir: Path) -> dict[str, str]:
    """A digest of every file of the final models."""
    folder = run_dir / "final"
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def last_state(run_dir: Path) -> dict[str, Any]:
    """The newest checkpoint's content, less the byte lengths of the logs (times have no fixed width)."""
    newest = sorted((run_dir / "checkpoints").glob("update_*"))[-1]
    state = torch.load(newest / "state.pt", weights_only=False)
    del state["log_sizes"]
    return {"folder": newest.name, **state}


def differences(one: Path, other: Path) -> list[str]:
    """Where two finished runs differ: logs, final models, last checkpoint with optimizers and buffer. Empty = bit for bit the same."""
    found: list[str] = []
    for log in LOGS:
        rows, others = log_rows(one, log), log_rows(other, log)
        if len(rows) != len(others):
            found.append(f"{log}: {len(rows)} and {len(others)} rows")
        for number, (a, b) in enumerate(zip(rows, others, strict=False), 1):
            found += [f"{log} line {number}: {k}: {a.get(k)} and {b.get(k)}" for k in {**a, **b} if repr(a.get(k)) != repr(b.get(k))]
    files, others = final_digests(one), final_digests(other)
    found += [f"final/{name}" for name in sorted({**files, **others}) if files.get(name) != others.get(name)]
    return found + list(_deep_differences("checkpoint", last_state(one), last_state(other)))


def _deep_differences(where: str, a: Any, b: Any) -> list[str]:
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [f"{where}: tensors differ"]
    if isinstance(a, Mapping):
        missing = [f"{where}: keys {sorted(map(str, set(a) ^ set(b)))}"] if set(a) != set(b) else []
        return missing + [d for k in a if k in b for d in _deep_differences(f"{where}.{k}", a[k], b[k])]
    if isinstance(a, list | tuple):
        length = [f"{where}: lengths {len(a)} and {len(b)}"] if len(a) != len(b) else []
        return length + [d for i, (x, y) in enumerate(zip(a, b, strict=False)) for d in _deep_differences(f"{where}.{i}", x, y)]
    if is_dataclass(a) and not isinstance(a, type):
        return [d for f in fields(a) for d in _deep_differences(f"{where}.{f.name}", getattr(a, f.name), getattr(b, f.name))]
    return [] if repr(a) == repr(b) else [f"{where}: {a!r} and {b!r}"]


def cli_environment() -> dict[str, str]:
    """Environment of a subprocess that can import collm and the toy environments."""
    tests = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent / "src"), str(tests)])}


_CORES = sorted(os.sched_getaffinity(0))


def pin_to_one_core() -> None:
    """For a subprocess: computes with one thread, as the tests' own process does."""
    os.sched_setaffinity(0, {random.SystemRandom().choice(_CORES)})
