"""A configuration in the making: layers merged one over the other, with a note of where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from collm.config.nearest import nearest_key
from collm.config.tree import Node, Path, find, key_name
from collm.errors import ConfigError

SourceOf = Callable[[Path], str]
"""Says where the value at a path came from: `file conf.yaml, line 3`, `argument training.updates=5`."""


class Draft:
    """Plain data that follows the schema's shape, not yet checked for types.

    Mappings merge key by key. A list replaces the list below it; single entries are reached by index.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self.values: dict[str, Any] = {}
        self._sources: dict[Path, str] = {}

    def merge(self, layer: Mapping[Any, Any], source: SourceOf) -> None:
        """Lays a whole mapping over what is there. Raises ConfigError for an unknown key."""
        self.values = self._merged(self.root, (), self.values, layer, source)

    def assign(self, key: str, value: Any, source: str) -> None:
        """Sets one value by its dotted key.

        An index one past the end of a list appends an entry with the last one's settings; null in place of a section
        of a list takes it out. Raises ConfigError for an unknown key and an index further out.
        """
        parts = key.split(".")
        self.values = self._assigned(self.root, (), self.values, parts, value, source)

    def keep_first(self, key: str, source: str) -> None:
        """Leaves only the first entry of a top-level list, if it holds any."""
        entries = self.values.get(key, [])
        for i in range(len(entries) - 1, 0, -1):
            self.values[key] = self._without((key,), self.values[key], i, source)

    def source(self, path: Path) -> str:
        """Where the value at `path` came from."""
        if path in self._sources:
            return self._sources[path]
        for end in range(len(path) - 1, 0, -1):
            # A value given whole speaks for what is in it; a section does not, for it may leave keys to their defaults.
            if path[:end] in self._sources and not self._holds_sections(path[:end]):
                return self._sources[path[:end]]
        below = [source for known, source in self._sources.items() if known[: len(path)] == path]
        return below[-1] if below else "the default"

    def _holds_sections(self, path: Path) -> bool:
        node = find(self.root, path)
        return node is not None and (node.kind == "section" or (node.item is not None and node.item.kind == "section"))

    def _merged(self, node: Node, path: Path, current: Any, value: Any, source: SourceOf) -> Any:
        if node.kind == "section" and (isinstance(value, Mapping) or (value is None and not node.nullable)):
            # A section with nothing in it, as when all its lines are commented out, changes nothing.
            merged = dict(current) if isinstance(current, dict) else {}
            for key, item in ({} if value is None else value).items():
                child = self._child(node, path, str(key), source((*path, str(key))))
                merged[key] = self._merged(child, (*path, key), merged.get(key, child.default()), item, source)
            return merged
        if node.kind == "mapping" and isinstance(value, Mapping) and isinstance(current, dict):
            for key in value:
                self._note((*path, key), source((*path, key)))
            return {**current, **copy.deepcopy(dict(value))}
        self._note(path, source(path))
        if node.item is not None and isinstance(value, list):
            return [self._merged(node.item, (*path, i), None, item, source) for i, item in enumerate(value)]
        return copy.deepcopy(value)

    def _assigned(self, node: Node, path: Path, current: Any, rest: list[str], value: Any, source: str) -> Any:
        if not rest:
            return self._merged(node, path, current, value, lambda _: source)
        key, deeper = rest[0], rest[1:]
        if node.kind == "section":
            child = self._child(node, path, key, source, deeper)
            held = dict(current) if isinstance(current, dict) else {}
            held[key] = self._assigned(child, (*path, key), held.get(key, child.default()), deeper, value, source)
            return held
        if node.kind == "mapping":
            self._note((*path, key), source)
            return _put(current, rest, value)
        if node.item is not None:
            return self._assigned_entry(node.item, path, current, rest, value, source)
        here = key_name(path)
        raise ConfigError(f"{here}.{'.'.join(rest)}: {here} takes {node.expected} and has no keys below it ({source})")

    def _assigned_entry(self, item: Node, path: Path, current: Any, rest: list[str], value: Any, source: str) -> Any:
        here, index, deeper = key_name(path), rest[0], rest[1:]
        if not isinstance(current, list):
            raise ConfigError(f"{here}.{index}: {here} holds no list yet; give it whole, as {here}=[...] ({source})")
        if not (index.isascii() and index.isdigit()):
            raise self._unknown((*path, *rest), source)
        if int(index) > len(current):
            held = f"holds entries 0 to {len(current) - 1}" if current else "is empty"
            raise ConfigError(f"{here}.{index}: {here} {held}; the next new one is {here}.{len(current)} ({source})")
        i, entries = int(index), list(current)
        if not deeper and value is None and item.kind == "section":
            return self._without(path, entries, i, source)
        if i == len(entries):
            self._sources[path] = source
            entries.append(copy.deepcopy(entries[-1]) if entries else None)
            self._copy_sources((*path, i - 1), (*path, i))
        entries[i] = self._assigned(item, (*path, i), entries[i], deeper, value, source)
        return entries

    def _without(self, path: Path, entries: list[Any], gone: int, source: str) -> list[Any]:
        """The list without one entry; the notes on the later ones move up with them."""
        for i in range(gone, len(entries)):
            self._forget((*path, i))
            self._copy_sources((*path, i + 1), (*path, i))
        self._sources[path] = source
        return entries[:gone] + entries[gone + 1 :]

    def _child(self, node: Node, path: Path, key: str, source: str, deeper: list[str] | None = None) -> Node:
        if key in node.children:
            return node.children[key]
        raise self._unknown((*path, key, *(deeper or [])), source)

    def _unknown(self, path: Path, source: str) -> ConfigError:
        return ConfigError(f"{key_name(path)}: unknown key ({source}); nearest valid name: {nearest_key(self.root, path)}")

    def _note(self, path: Path, source: str) -> None:
        self._forget(path)
        self._sources[path] = source

    def _forget(self, path: Path) -> None:
        self._sources = {known: source for known, source in self._sources.items() if known[: len(path)] != path}

    def _copy_sources(self, start: Path, end: Path) -> None:
        copies = {(*end, *known[len(start) :]): source for known, source in self._sources.items() if known[: len(start)] == start}
        self._sources.update(copies)


def _put(current: Any, keys: list[str], value: Any) -> dict[str, Any]:
    held = dict(current) if isinstance(current, dict) else {}
    held[keys[0]] = _put(held.get(keys[0]), keys[1:], value) if len(keys) > 1 else copy.deepcopy(value)
    return held
