"""The presets that come with the package: one YAML file per task and size, one per method.

Each file is `description:` (one line, shown by `collm list`) and `config:` (keys as in any configuration file). A method's
file may say `single_agent: true`: it is its algorithm for a team of one. A task's file may have a second layer,
`monte_carlo:`, laid over it for methods that roll out trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.config.nearest import nearest
from collm.config.tree import Path as KeyPath
from collm.config.tree import schema_tree
from collm.config.yamlio import Document, read_document
from collm.errors import ConfigError

_FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Preset:
    """One layer of settings under a name."""

    name: str
    description: str
    document: Document

    @property
    def settings(self) -> dict[str, Any]:
        return self.document.values["config"] or {}

    @property
    def tree_settings(self) -> dict[str, Any]:
        """What a task's preset adds for methods that roll out trees."""
        return self.document.values.get("monte_carlo") or {}

    @property
    def single_agent(self) -> bool:
        """Whether a method's preset is for a team of one."""
        return bool(self.document.values.get("single_agent", False))

    def source(self, path: KeyPath) -> str:
        """Where a value of this preset stands, for error messages."""
        return f"preset {self.name}"


def task_presets(task: str | None = None) -> list[Preset]:
    """All presets of one task, or of every task."""
    files = sorted((_FOLDER / "tasks").glob(f"{task or '*'}-*.yaml"))
    return [_read(file) for file in files]


def task_preset(task: str, size: str) -> Preset:
    """`strbuild`, `paper` -> the preset strbuild-paper. Raises ConfigError where there is none."""
    file = _FOLDER / "tasks" / f"{task}-{size}.yaml"
    if file.is_file():
        return _read(file)
    sizes = [preset.name.removeprefix(f"{task}-") for preset in task_presets(task)]
    raise ConfigError(
        f"preset: task {task} has no preset {size!r} (option --preset); it has {', '.join(sizes)}; nearest: {nearest(size, sizes)}"
    )


def methods() -> tuple[str, ...]:
    """The names of all methods: the algorithms, then those that are presets of one."""
    algorithms = schema_tree("custom").children["method"].choices
    return algorithms + tuple(sorted({file.stem for file in (_FOLDER / "methods").glob("*.yaml")} - set(algorithms)))


def method_preset(method: str) -> Preset:
    """The settings a method brings; `method` is one of `methods()`."""
    return _read(_FOLDER / "methods" / f"{method}.yaml")


def _read(file: Path) -> Preset:
    document = read_document(file)
    return Preset(file.stem, str(document.values["description"]), document)
