"""The schema as a tree of plain nodes: which keys there are, what each takes and what it means.

Everything that must speak about keys (merging layers, error messages, `collm config`) reads this tree, so that none of
it depends on how pydantic words or arranges things.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from collm.config.schema import Config
from collm.config.tasks import AnyTask

Kind = Literal["section", "list", "mapping", "value"]
Path = tuple[str | int, ...]

TASKS: dict[str, type[AnyTask]] = {section.model_fields["name"].default: section for section in get_args(AnyTask)}
"""The task sections by the name a person types."""


def _nothing() -> Any:
    return {}


@dataclass(frozen=True)
class Node:
    """One place in the configuration."""

    kind: Kind
    expected: str
    """What it takes, in words, such as `a whole number >= 1`."""
    description: str = ""
    nullable: bool = False
    choices: tuple[str, ...] = ()
    children: Mapping[str, Node] = field(default_factory=dict)
    item: Node | None = None
    default: Callable[[], Any] = _nothing
    """Makes its default as plain data; a section's is `{}`, for validation fills it in."""


@cache
def schema_tree(task: str) -> Node:
    """The tree of `Config` for one of `TASKS`."""
    return _section(Config, TASKS[task], description="a whole run")


def key_name(path: Path) -> str:
    """`("agents", 1, "model")` as a person writes it: `agents.1.model`."""
    return ".".join(str(part) for part in path)


def find(node: Node, path: Path) -> Node | None:
    """The node at `path`, or None where the schema has no such place (below a free mapping, say)."""
    for part in path:
        following = node.item if isinstance(part, int) else node.children.get(part)
        if following is None:
            return None
        node = following
    return node


def walk(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the schema, with `*` for a list index."""
    for name, child in node.children.items():
        yield (*path, name)
        yield from walk(child, (*path, name))
    if node.item is not None and node.item.kind == "section":
        yield from walk(node.item, (*path, "*"))


def in_words(value: Any) -> str:
    """A value with its kind, as in `text 'many'`."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"number {value}"
        case str():
            return f"text {value!r}" if len(value) <= 80 else f"text {value[:77]!r}..."
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return "a section" if value else "an empty section"
        case _:
            return f"a {type(value).__name__}"


def _section(model: type[BaseModel], task: type[AnyTask], description: str, nullable: bool = False) -> Node:
    # A task's own fields follow the shared ones; its name is what a reader looks for first.
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "name")
    children = {name: _field(info, task) for name, info in fields}
    expected = f"a section with keys {', '.join(children)}"
    return Node("section", _or_null(expected, nullable), description, nullable, children=children)


def _field(info: FieldInfo, task: type[AnyTask]) -> Node:
    node = _annotation(info.annotation, task, info)

    def default() -> Any:
        return _plain(info.get_default(call_default_factory=True))

    return Node(node.kind, node.expected, info.description or "", node.nullable, node.choices, node.children, node.item, default)


def _annotation(annotation: Any, task: type[AnyTask], info: FieldInfo | None = None) -> Node:
    """The node of a type; `info` carries the bounds of the field that has it."""
    variants, nullable = _variants(annotation)
    if len(variants) > 1 and not any(isinstance(v, type) and issubclass(v, BaseModel) for v in variants):
        either = [_annotation(variant, task, info) for variant in variants]
        words = " or ".join(node.expected for node in either)
        return Node("value", _or_null(words, nullable), nullable=nullable, choices=tuple(c for node in either for c in node.choices))
    kind = variants[0] if len(variants) == 1 else task
    origin = get_origin(kind)
    if origin is Literal:
        choices = tuple(str(choice) for choice in get_args(kind))
        words = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
        return Node("value", _or_null(words, nullable), nullable=nullable, choices=choices)
    if origin is list:
        item = _annotation(get_args(kind)[0], task)
        return Node("list", _or_null(f"a list{_bounds(info)}", nullable), nullable=nullable, item=item)
    if origin is dict:
        return Node("mapping", _or_null("a mapping with text keys", nullable), nullable=nullable)
    if issubclass(kind, BaseModel):
        return _section(kind, task, "", nullable)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    return Node("value", _or_null(words + _bounds(info), nullable), nullable=nullable)


def _variants(annotation: Any) -> tuple[list[Any], bool]:
    """The members of a union without None, and whether None was among them."""
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation], False
    members = get_args(annotation)
    return [member for member in members if member is not NoneType], NoneType in members


def _bounds(info: FieldInfo | None) -> str:
    """The limits of a field in words, such as ` >= 1` or ` such as 0:8`."""
    if info is None:
        return ""
    if info.examples:
        return f" such as {info.examples[0]}"
    limits = [words for limit in info.metadata if (words := _limit(limit))]
    return f" {' and '.join(limits)}" if limits else ""


def _limit(limit: Any) -> str:
    match limit:
        case Ge(ge=bound):
            return f">= {bound}"
        case Gt(gt=bound):
            return f"> {bound}"
        case Le(le=bound):
            return f"<= {bound}"
        case Lt(lt=bound):
            return f"< {bound}"
        case MinLen(min_length=least):
            return f"with {least} or more entries"
        case _:
            return ""


def _or_null(expected: str, nullable: bool) -> str:
    return f"{expected}, or null" if nullable else expected


def _plain(value: Any) -> Any:
    """A default as the plain data a YAML file would hold; what a section leaves unset stays unset."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return copy.deepcopy(value)
