"""A resolved configuration as YAML with each field's meaning beside it, for `collm config`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from collm.config.schema import Config
from collm.config.tree import Node, schema_tree
from collm.config.yamlio import inline

_COLUMN = 44
"""Where the meanings start."""


def describe(config: Config) -> str:
    """Every field, its value and its one-line meaning. The text is YAML itself, fit for `--config`."""
    root = schema_tree(config.task.name)
    return "".join(f"{line}\n" for line in _section(root, config.model_dump(), ""))


def _section(node: Node, values: dict[str, Any], indent: str) -> Iterator[str]:
    for name, child in node.children.items():
        value = values[name]
        if child.kind == "section" and value is not None:
            yield _line(f"{indent}{name}:", child.description)
            yield from _section(child, value, indent + "  ")
        elif child.item is not None and child.item.kind == "section" and value:
            yield _line(f"{indent}{name}:", child.description)
            for entry in value:
                yield from _entry(child.item, entry, indent + "  ")
        else:
            yield _line(f"{indent}{name}: {inline(value)}", child.description)


def _entry(node: Node, values: dict[str, Any], indent: str) -> Iterator[str]:
    """One entry of a list of sections: its first line carries the dash."""
    lines = _section(node, values, indent + "  ")
    first = next(lines)
    yield f"{indent}- {first[len(indent) + 2 :]}"
    yield from lines


def _line(setting: str, description: str) -> str:
    return f"{setting:<{_COLUMN}}  # {description}"
