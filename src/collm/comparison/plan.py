"""What a comparison consists of: one run folder per method and seed, all with the same budget of env steps.

Nothing here needs torch, so that a mistake in the arguments is told at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collm.config import presets
from collm.config.load import DEFAULT_PRESET, load_config_file, resolve
from collm.config.nearest import nearest
from collm.config.schema import Config
from collm.errors import ConfigError, RunFolderError
from collm.reports.comparison import run_folders

_OWN_KEYS = {
    "seed": "give --seeds",
    "method": "give --methods",
    "training.env_steps": "give --env-steps",
    "training.updates": "leave it out: every run ends with its env steps",
}
"""Keys that a comparison sets itself, and what to do instead."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison."""

    method: str
    """Name as in `collm list methods`; a preset such as grpo stays apart from its algorithm."""
    seed: int
    folder: Path
    config: Config


@dataclass(frozen=True)
class Settings:
    """The settings of a comparison's runs: what they share, and what single methods have beside it."""

    task: str
    env_steps: int
    """Budget of every run in joint actions; a run ends with the first update that reaches it."""
    preset: str = DEFAULT_PRESET
    config_file: Path | None = None
    shared: Sequence[str] = ()
    """Overrides key.path=value of every run."""
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Method -> overrides of its runs alone, laid over the shared ones."""

    def config(self, method: str, seed: int) -> Config:
        """The configuration of one run. Raises ConfigError where the settings do not fit the method."""
        # Held-out evaluations between the first and the last take time and show nothing here, unless they are asked for.
        overrides = ["evaluation.every=0", *self.shared, *self.own.get(method, ()), f"training.env_steps={self.env_steps}"]
        try:
            config = resolve(self.task, method=method, preset=self.preset, config_file=self.config_file, overrides=overrides, seed=seed)
        except ConfigError as error:
            error.add_place(f"method {method}")
            raise
        # An episode has at least one joint action, so the budget ends every run before this many updates do.
        updates = math.ceil(self.env_steps / config.training.episodes_per_update)
        return config.model_copy(update={"training": config.training.model_copy(update={"updates": updates})})

    def default_folder(self) -> Path:
        """runs/compare-TASK-STEPS; an environment of one's own counts by its class."""
        return Path("runs") / f"compare-{self.task.rpartition(':')[2]}-{self.env_steps}"


def plan(settings: Settings, methods: Sequence[str], seeds: Sequence[int], folder: Path) -> list[PlannedRun]:
    """The runs in the order they are made: seed by seed, so that what is there after a stop compares equals.

    Raises ConfigError where the settings do not fit a method, and RunFolderError where any run already in `folder`
    was made with other settings.
    """
    runs = [
        PlannedRun(method, seed, folder / f"{method}-seed{seed}", settings.config(method, seed)) for seed in seeds for method in methods
    ]
    present = run_folders(folder)
    _check_own(settings.own, {*methods, *(method for method, _ in present)})
    for (method, seed), run in present.items():
        _check_same(run, settings.config(method, seed), folder)
    return runs


def method_names(text: str) -> list[str]:
    """`magrpo,collm-cc` -> the names. Raises ConfigError naming the nearest where there is no such method."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(
            f"option --methods: expected names with commas between them, got {text!r}; methods: {', '.join(presets.methods())}"
        )
    for name in names:
        _known(name, "option --methods")
    if len(set(names)) < len(names):
        raise ConfigError(f"option --methods: {text!r} names a method twice")
    return names


def seed_numbers(text: str) -> list[int]:
    """`5` -> seeds 0 to 4; `3,4,7` -> these; `3,` -> seed 3 alone. Raises ConfigError where it is neither."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    valid = bool(parts) and all(part.isascii() and part.isdigit() for part in parts)
    numbers = [int(part) for part in parts] if valid else []
    if "," not in text and numbers:
        numbers = list(range(numbers[0]))
    if not numbers:
        raise ConfigError(f"option --seeds: expected how many (5 means seeds 0 to 4) or a list such as 3,4,7, got {text!r}")
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"option --seeds: {text!r} names a seed twice")
    return numbers


def split_overrides(overrides: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides of all runs, and those of one method (`METHOD:key.path=value`) by its name.

    Raises ConfigError for an unknown method and for keys that the comparison sets itself.
    """
    shared: list[str] = []
    own: dict[str, list[str]] = {}
    for text in overrides:
        key = text.partition("=")[0].strip()
        method, colon, rest = key.partition(":")
        if colon:
            _known(method, f"argument {text}")
            key = rest.strip()
        if key in _OWN_KEYS:
            raise ConfigError(f"argument {text}: a comparison sets {key} itself; {_OWN_KEYS[key]}")
        if colon:
            own.setdefault(method, []).append(text.partition(":")[2].strip())
        else:
            shared.append(text)
    return shared, own


def _known(method: str, source: str) -> None:
    known = presets.methods()
    if method not in known:
        raise ConfigError(f"{source}: method {method!r} is unknown; nearest: {nearest(method, known)}; methods: {', '.join(known)}")


def _check_own(own: Mapping[str, Sequence[str]], compared: set[str]) -> None:
    for method, overrides in own.items():
        if method not in compared:
            raise ConfigError(f"argument {method}:{overrides[0]}: {method} is not compared here; name it in --methods or leave this out")


def _check_same(run: Path, wanted: Config, folder: Path) -> None:
    there = load_config_file(run / "config.yaml")
    found = list(_differences("", there.model_dump(), wanted.model_dump()))
    # The bound on updates follows from other settings: it is told only where it stands alone.
    found = [text for text in found if not text.startswith("training.updates ")] or found
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise RunFolderError(
            f"{run} was made with other settings: {'; '.join(found[:4])}{more}. "
            f"Give the same settings as then, or another --run-dir than {folder}"
        )


def _differences(path: str, there: Any, wanted: Any) -> Iterable[str]:
    """`key.path is A there, B now` for every leaf that differs."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys([*there, *wanted]):
            yield from _differences(f"{path}.{key}".lstrip("."), there.get(key), wanted.get(key))
    elif isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        for i, (a, b) in enumerate(zip(there, wanted, strict=True)):
            yield from _differences(f"{path}.{i}", a, b)
    elif there != wanted:
        yield f"{path} is {_brief(there)} there, {_brief(wanted)} now"


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = "null" if value is None else re.sub(r"\s+", " ", str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
