"""YAML in and out, by the rules of YAML 1.2: only `true` and `false` are booleans, `8:10` is text, `1e-3` is a number.

PyYAML reads YAML 1.1, where `off` is false and `8:10` is 490; both are real values of this configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from collm.config.tree import Path as KeyPath
from collm.config.tree import in_words, key_name
from collm.errors import ConfigError

_RULES: list[tuple[str, str, str]] = [
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("merge", r"^<<$", "<"),
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to leave the 1.1 rules behind


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either set of rules would read as something else, so any YAML reader gets the same text back."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _InlineDumper(_Dumper):
    """Keeps text with line breaks on one line, as only double quotes can."""


def _one_line(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    style = '"' if len(text.splitlines()) > 1 or text != text.strip() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _exact(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    # Quoted with escapes: unquoted and single-quoted text folds breaks, of which YAML knows more than the newline (U+0085 is one).
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_InlineDumper.add_representer(str, _one_line)
_Dumper.add_representer(str, _exact)

for _tag, _pattern, _first in _RULES:
    # "\0" stands for the empty text, which PyYAML files under "".
    _firsts = ["" if c == "\0" else c for c in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _firsts)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _firsts)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its plain data and the line each key stands on."""

    file: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]

    def source(self, path: KeyPath) -> str:
        """`file conf.yaml, line 3`, for an error about the value at `path`."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"file {self.file}, line {self.lines[path]}" if path else f"file {self.file}"


def read_document(file: Path) -> Document:
    """A YAML file that holds a mapping (or nothing).

    Raises ConfigError where it cannot be read, is not YAML, holds something else or gives a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"file {file} cannot be read: byte {error.start} is not UTF-8 text") from error
    values, lines = _parse(text, f"file {file}")
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"file {file}: expected keys and values (such as `seed: 1`) at the top, got {in_words(values)}")
    return Document(file, values, lines)


def parse_value(text: str, source: str) -> Any:
    """One value given on the command line. Raises ConfigError, naming `source`, where it is not YAML."""
    try:
        return _parse(text, source)[0]
    except ConfigError as error:
        raise ConfigError(f"{error}; put text that holds special characters in quotes") from error


def to_yaml(values: Any) -> str:
    """Plain data as block YAML that reads back equal. Raises ConfigError where a value is not plain data."""
    try:
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    except yaml.representer.RepresenterError as error:
        raise ConfigError(f"cannot be written as YAML: {error.args[-1]!r} is not text, a number, a list or a mapping") from error


def inline(value: Any) -> str:
    """Plain data as YAML on one line."""
    text = yaml.dump(value, Dumper=_InlineDumper, sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=True)
    return text.removesuffix("...\n").strip()


def _parse(text: str, source: str) -> tuple[Any, dict[KeyPath, int]]:
    loader = _Loader("")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), (), source))
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise ConfigError(f"{source}, line {line}: not valid YAML: the character {chr(int(error.character))!r} is not allowed") from error
    finally:
        loader.dispose()


def _lines(node: Node, path: KeyPath, above: tuple[Node, ...], source: str) -> Iterator[tuple[KeyPath, int]]:
    """Each path below `node` with its line. Raises ConfigError for a key given twice and a value that holds itself."""
    if node in above:
        raise ConfigError(f"{source}, line {node.start_mark.line + 1}: {key_name(path)} holds itself")
    above = (*above, node)
    if isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            yield (*path, i), item.start_mark.line + 1
            yield from _lines(item, (*path, i), above, source)
    elif isinstance(node, MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.value == "<<":
                continue
            here, line = (*path, key.value), key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(f"{key_name(here)}: given twice ({source}, line {line})")
            seen.add(key.value)
            yield here, line
            yield from _lines(value, here, above, source)
