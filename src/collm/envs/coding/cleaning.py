"""From a response to the functions and imports in it (tasks.md section 2, clean-up). Linear in the text, never raises.

Reasoning up to `</think>`, markdown fences and prose are dropped; top-level function definitions and imports are kept. What
parses is read off the syntax tree: the fenced parts if they hold a function, else the whole text. Text that does not parse is
read line by line: a function is its `def` line at the start of a line, its decorators, and what follows up to the next line
that is not indented and not inside brackets or a triple-quoted string.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from collm.envs.coding.source import MAX_RESPONSE, parse_source

_DEF = re.compile(r"def[ \t]+(\w+)[ \t]*\(")
_IMPORT = re.compile(r"(?:import|from)[ \t]")
_STARTS_ANEW = re.compile(r"(?:def|class|import|from|async)[ \t]|@")
_FENCE = re.compile(r"`{3,}|^[ \t]*~{3,}")
_LANGUAGE = re.compile(r"[ \t]*[\w+.#-]*[ \t]*")
_RETURN = re.compile(r"(?:^|[:;])[ \t]*return\b[ \t(]*[^ \t(#;]")
_LEXEME = re.compile(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|#.*|[()\[\]{}]")


@dataclass(frozen=True, slots=True)
class Function:
    """A top-level function of a response."""

    name: str
    source: str
    returns: bool
    """Whether a return with a value is in it."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of a response, in its order."""

    functions: tuple[Function, ...]
    imports: tuple[str, ...]


def clean(response: str) -> Cleaned:
    """The top-level functions and imports of a response; of one longer than MAX_RESPONSE characters, of its beginning."""
    text = response[:MAX_RESPONSE].replace("\r\n", "\n").replace("\r", "\n")
    text = text.rpartition("</think>")[2]
    whole, fenced = _without_fences(text)
    for code in [part for part in (fenced, whole) if part.strip()]:
        tree = parse_source(code)
        if isinstance(tree, ast.Module) and any(isinstance(node, ast.FunctionDef) for node in tree.body):
            return _by_tree(tree, code.split("\n"))
    return _by_lines(whole.split("\n"))


def _without_fences(text: str) -> tuple[str, str]:
    """The text without its fence marks, and what stands between the marks (to the end where the last is not closed)."""
    whole: list[str] = []
    fenced: list[str] = []
    inside = False
    for line in text.split("\n"):
        first, *others = _FENCE.split(line)
        pieces = [first] if first.strip() or not others else []
        fenced += pieces if inside else []
        for piece in others:
            inside = not inside
            if piece.strip() and not (inside and _LANGUAGE.fullmatch(piece)):
                pieces.append(piece)
                fenced += [piece] if inside else []
        whole += pieces
    return "\n".join(whole), "\n".join(fenced)


def _by_tree(tree: ast.Module, lines: Sequence[str]) -> Cleaned:
    functions = [
        Function(node.name, _lines_of(node, lines), any(_returns(inner) for inner in ast.walk(node)))
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    ]
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return Cleaned(tuple(functions), tuple(imports))


def _returns(node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and node.value is not None


def _lines_of(node: ast.FunctionDef, lines: Sequence[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _by_lines(lines: Sequence[str]) -> Cleaned:
    functions: list[Function] = []
    imports: list[str] = []
    for block in _blocks(lines):
        source = "\n".join(block)
        head = next((match for line in block if (match := _DEF.match(line))), None)
        tree = parse_source(source)
        if head is None:
            imports += [source] if isinstance(tree, ast.Module) else []
        elif isinstance(tree, ast.Module):
            functions += _by_tree(tree, block).functions
        else:
            functions.append(Function(head[1], source, any(_RETURN.search(line) for line in block)))
    return Cleaned(tuple(functions), tuple(imports))


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines of each function, its decorators first, and of each import."""
    decorators: list[str] = []
    block: list[str] | None = None
    scanner = _Scanner()
    for line in lines:
        if block is not None and _belongs(line, scanner):
            block.append(line)
            scanner.read(line)
            continue
        if block is not None:
            yield _without_blank_end(block)
            block = None
        if line.startswith("@"):
            decorators.append(line)
            continue
        if _DEF.match(line) or _IMPORT.match(line):
            block = [*(decorators if _DEF.match(line) else []), line]
            scanner = _Scanner()
            scanner.read(line)
        decorators = []
    if block is not None:
        yield _without_blank_end(block)


def _belongs(line: str, scanner: _Scanner) -> bool:
    """Whether a line goes on with the block before it."""
    if scanner.in_string:
        return True
    if scanner.depth > 0:
        return not _STARTS_ANEW.match(line)  # brackets that were never closed end here
    return not line.strip() or line[0] in " \t#"


def _without_blank_end(block: list[str]) -> list[str]:
    while not block[-1].strip():
        block.pop()
    return block


class _Scanner:
    """Whether a place is inside brackets or a triple-quoted string."""

    def __init__(self) -> None:
        self.depth = 0
        self._quote = ""

    @property
    def in_string(self) -> bool:
        return bool(self._quote)

    def read(self, line: str) -> None:
        place = 0
        while place < len(line):
            if self._quote:
                end = line.find(self._quote, place)
                if end < 0:
                    return
                place, self._quote = end + 3, ""
                continue
            found = _LEXEME.search(line, place)
            if found is None:
                return
            place, lexeme = found.end(), found[0]
            if lexeme in ('"""', "'''"):
                self._quote = lexeme
            elif lexeme in "([{":
                self.depth += 1
            elif lexeme in ")]}":
                self.depth = max(0, self.depth - 1)
