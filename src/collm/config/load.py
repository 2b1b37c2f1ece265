"""From layers of settings to one typed configuration, and back to YAML.

The layers, later ones over earlier ones: schema defaults, the task's preset, the method's preset, the configuration
file, command-line options, `key.path=value` overrides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from collm.config import presets
from collm.config.combinations import ACTOR_CRITIC
from collm.config.draft import Draft
from collm.config.nearest import nearest
from collm.config.problems import checked, checked_task
from collm.config.schema import Config
from collm.config.tasks import AnyTask
from collm.config.tree import TASKS, in_words, schema_tree
from collm.config.yamlio import Document, parse_value, read_document, to_yaml
from collm.errors import ConfigError

DEFAULT_PRESET = "tiny"


def resolve(
    task: str,
    *,
    method: str | None = None,
    preset: str = DEFAULT_PRESET,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
) -> Config:
    """The whole configuration of a run on `task`: a built-in name, `custom`, or the import path `pkg.module:Class`.

    Raises ConfigError, one message that names the key, where it was set, what is wrong and the nearest valid name.
    """
    layers = _Layers.read(task, preset, config_file, overrides, {"method": method, "seed": seed})
    # The method may be named by any layer, but its preset belongs below most of them: hence twice.
    chosen = layers.draft(None).values.get("method", presets.methods()[0])
    names = presets.methods()
    if isinstance(chosen, str) and chosen not in names:
        origin = layers.draft(None).source(("method",))
        raise ConfigError(
            f"method: expected one of {', '.join(names)}, got {in_words(chosen)} ({origin}); nearest: {nearest(chosen, names)}"
        )
    return checked(layers.draft(presets.method_preset(chosen) if isinstance(chosen, str) else None))


def resolve_task(task: str, *, config_file: Path | None = None, overrides: Sequence[str] = ()) -> AnyTask:
    """The task section alone, for what needs no agents. Raises ConfigError like `resolve`."""
    layers = _Layers.read(task, DEFAULT_PRESET, config_file, overrides, {})
    return checked_task(layers.draft(None), layers.name)


def load_config_file(path: Path) -> Config:
    """A complete configuration, such as a run folder's config.yaml; no preset is applied.

    Raises ConfigError where it cannot be read or used.
    """
    document = read_document(path)
    return config_from(document.values, document)


def config_from(values: Mapping[str, Any], source: Document | str = "the given settings") -> Config:
    """A configuration from plain data over the schema's defaults. Raises ConfigError where it cannot be used."""
    origin = source.source if isinstance(source, Document) else lambda _: source
    task = values.get("task") or {"name": "strbuild"}
    if not isinstance(task, Mapping) or "name" not in task:
        got = "a section without it" if isinstance(task, Mapping) else in_words(task)
        raise ConfigError(f"task.name: expected one of {', '.join(TASKS)}, got {got} ({origin(('task',))})")
    name = task["name"]
    if not isinstance(name, str) or name not in TASKS:
        raise _unknown_task(str(name), origin(("task", "name")))
    draft = Draft(schema_tree(name))
    draft.merge({"task": {"name": name}}, lambda _: origin(("task",)))
    draft.merge(values, origin)
    return checked(draft)


def dump(config: Config) -> str:
    """YAML that `load_config_file` reads back to an equal configuration.

    Raises ConfigError where a free mapping (task.env_args) holds something that is not plain data.
    """
    return to_yaml(config.model_dump())


def task_of(task: str) -> tuple[str, str | None]:
    """The task's name and, for `pkg.module:Class`, the import path of its environment. Raises ConfigError if unknown."""
    if ":" in task:
        return "custom", task
    if task not in TASKS:
        raise _unknown_task(task, "argument TASK")
    return task, None


def _unknown_task(task: str, source: str) -> ConfigError:
    return ConfigError(
        f"task {task!r} is unknown ({source}); nearest: {nearest(task, TASKS)}; "
        f"tasks: {', '.join(TASKS)}, or an import path pkg.module:Class of your own environment"
    )


@dataclass(frozen=True)
class _Layers:
    """Everything that was said about a run, not yet merged."""

    name: str
    env: str | None
    base: presets.Preset
    document: Document | None
    options: Mapping[str, Any]
    overrides: list[tuple[str, Any, str]]

    @classmethod
    def read(cls, task: str, preset: str, config_file: Path | None, overrides: Sequence[str], options: Mapping[str, Any]) -> Self:
        name, env = task_of(task)
        document = read_document(config_file) if config_file is not None else None
        return cls(name, env, presets.task_preset(name, preset), document, options, [_override(text) for text in overrides])

    def draft(self, method_preset: presets.Preset | None) -> Draft:
        made = Draft(schema_tree(self.name))
        made.merge({"task": {"name": self.name}}, lambda _: "argument TASK")
        made.merge(self.base.settings, self.base.source)
        if method_preset is not None:
            if method_preset.settings["method"] not in ACTOR_CRITIC:
                made.merge(self.base.tree_settings, self.base.source)
            made.merge(method_preset.settings, method_preset.source)
            if method_preset.single_agent:
                made.keep_first("agents", method_preset.source(("agents",)))
        if self.document is not None:
            made.merge(self.document.values, self.document.source)
            _check_task(made, self.name)
        for key, value in self.options.items():
            if value is not None:
                made.assign(key, value, f"option --{key}")
        if self.env is not None:
            made.assign("task.env", self.env, "argument TASK")
        for key, value, source in self.overrides:
            made.assign(key, value, source)
            _check_task(made, self.name)
        if method_preset is not None:
            # `grpo` is a preset of magrpo: what runs is the algorithm.
            algorithm = made.values["method"] = method_preset.settings["method"]
            count = len(made.values.get("agents", [])) if isinstance(made.values.get("agents"), list) else 1
            if method_preset.single_agent and count > 1:
                raise ConfigError(
                    f"agents: method {method_preset.name} is {algorithm} with one agent and there are {count} "
                    f"({made.source(('agents',))}); for a team use --method {algorithm} "
                    "(in a comparison give agents.1 to the other methods alone, as METHOD:agents.1.key=value)"
                )
        return made


def _override(text: str) -> tuple[str, Any, str]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"argument {text!r} is not an override; write key.path=value, such as training.updates=10")
    source = f"argument {text}"
    return key, parse_value(value, source), source


def _check_task(draft: Draft, task: str) -> None:
    """A file or override may repeat the task's name, not change it: the keys below `task` depend on it."""
    section = draft.values["task"]
    name = section["name"] if isinstance(section, dict) else task
    if name != task:
        raise ConfigError(f"task.name: {name!r} ({draft.source(('task', 'name'))}) contradicts TASK, which says {task!r}")
