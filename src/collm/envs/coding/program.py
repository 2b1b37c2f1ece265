"""The joint program of one response per agent, and what its syntax tree says (tasks.md section 2).

Program = imports + what the prompt defines beside the entry point + each helper's part + the entry point's. Every agent owns
its function: another agent's definition of it is dropped, so that nobody can replace a team mate's work by their own.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from collm.envs.coding.cleaning import Function, clean
from collm.envs.coding.source import SourceError, parse_source


@dataclass(frozen=True, slots=True)
class Part:
    """What one agent adds to the program."""

    name: str
    """The function it was asked for."""
    functions: tuple[Function, ...]
    imports: tuple[str, ...]

    @property
    def asked(self) -> Function | None:
        """The function it was asked for: the last definition of it, as in Python."""
        return next((function for function in reversed(self.functions) if function.name == self.name), None)

    @property
    def defined(self) -> bool:
        """Whether that is there with a return in it."""
        return self.asked is not None and self.asked.returns

    @property
    def source(self) -> str:
        return "\n\n".join(function.source for function in self.functions)


@dataclass(frozen=True, slots=True)
class HelperUse:
    """What the entry point does with a helper."""

    called: bool
    ignored: bool
    """Called, and no call's result is ever used."""


@dataclass(frozen=True, slots=True)
class Program:
    """A joint program; the last part is the entry point's."""

    parts: tuple[Part, ...]
    source: str
    error: SourceError | None
    error_part: str | None
    """In whose part the error stands; its line then counts from there."""
    uses: tuple[HelperUse, ...]
    """Of every helper; nothing is called in a program that does not parse."""
    wrapper: bool
    """The entry point only returns what a helper returns."""

    @property
    def main(self) -> Part:
        return self.parts[-1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self  # immutable throughout


def join_responses(
    responses: Sequence[str],
    names: Sequence[str],
    prompt_imports: Sequence[str] = (),
    prompt_helpers: str = "",
    keep: Literal["all", "named"] = "all",
    response_imports: bool = True,
) -> Program:
    """The program of one response per name; the last name is the entry point. Never raises, whatever the responses hold."""
    parts = tuple(_part(response, name, names, keep) for response, name in zip(responses, names, strict=True))
    imports = [*prompt_imports, *(line for part in parts if response_imports for line in part.imports)]
    imports = sorted(dict.fromkeys(imports), key=lambda line: not line.startswith("from __future__"))
    blocks = [("", "\n".join(imports)), ("", prompt_helpers.strip("\n")), *((part.name, part.source) for part in parts)]
    blocks = [block for block in blocks if block[1]]
    source = "".join(f"{text}\n\n" for _, text in blocks)[:-1]
    tree = parse_source(source)
    if isinstance(tree, SourceError):
        error, where = _located(tree, blocks)
        return Program(parts, source, error, where, tuple(HelperUse(False, False) for _ in names[:-1]), False)
    uses, wrapper = _main_uses(tree, parts)
    return Program(parts, source, None, None, uses, wrapper)


def _part(response: str, name: str, names: Sequence[str], keep: Literal["all", "named"]) -> Part:
    cleaned = clean(response)
    own = [function for function in cleaned.functions if function.name == name or (keep == "all" and function.name not in names)]
    return Part(name, tuple(own), cleaned.imports)


def _located(error: SourceError, blocks: Sequence[tuple[str, str]]) -> tuple[SourceError, str | None]:
    """The error with its line counted from the beginning of the part it stands in, and that part's name."""
    start = 0
    for name, text in blocks:
        lines = text.count("\n") + 1
        if name and start < error.line <= start + lines + 1:
            return SourceError(min(error.line - start, lines), error.column, error.message), name
        start += lines + 1
    return error, None


def _main_uses(tree: ast.Module, parts: Sequence[Part]) -> tuple[tuple[HelperUse, ...], bool]:
    """How the entry point uses every helper, itself or by way of functions of its own agent, and whether it only wraps one."""
    *helpers, main = parts
    own = {function.name for function in main.functions}
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in own}
    if main.name not in defined:
        return tuple(HelperUse(False, False) for _ in helpers), False
    reached = _reached(main.name, defined)
    # A call of a helper that nobody has written is none, however dead the code it stands in.
    written = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    uses = [_use(helper.name, reached) if helper.name in written else HelperUse(False, False) for helper in helpers]
    called = [helper.name for helper, use in zip(helpers, uses, strict=True) if use.called]
    return tuple(uses), _wraps_one(main.name, defined, called)


def _wraps_one(name: str, defined: dict[str, ast.FunctionDef], helpers: Sequence[str]) -> bool:
    """Whether the function only returns what one of the helpers returns, itself or by way of functions that do no more."""
    wrappers = {key for key, node in defined.items() if any(_only_wraps(node, helper) for helper in helpers)}
    for _ in defined:
        wrappers |= {key for key, node in defined.items() if any(_only_wraps(node, inner) for inner in sorted(wrappers))}
    return name in wrappers


def _reached(name: str, defined: dict[str, ast.FunctionDef]) -> list[ast.FunctionDef]:
    """The function and those of `defined` that it names, and they name."""
    found, waiting = {name}, [name]
    while waiting:
        for node in ast.walk(defined[waiting.pop()]):
            if isinstance(node, ast.Name) and node.id in defined and node.id not in found:
                found.add(node.id)
                waiting.append(node.id)
    return [node for key, node in defined.items() if key in found]


def _use(helper: str, functions: Sequence[ast.FunctionDef]) -> HelperUse:
    calls = used = 0
    for function in functions:
        if _binds(function, helper):
            continue  # a name of its own: what it calls is not the helper
        own_calls = sum(_is_call(node, helper) for node in ast.walk(function))
        calls += own_calls
        used += own_calls - _dropped_calls(function, helper)
    return HelperUse(calls > 0, calls > 0 and used == 0)


def _is_call(node: ast.AST | None, helper: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == helper


def _binds(function: ast.FunctionDef, name: str) -> bool:
    """Whether a parameter, assignment, definition or import in the function takes the name."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.arg == name:
            return True
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
    return False


def _dropped_calls(function: ast.FunctionDef, helper: str) -> int:
    """Calls whose result nobody sees: a statement by itself, or assigned to names that nothing else reads."""
    read = Counter(_read_names(function))
    dropped = 0
    for node in ast.walk(function):
        if isinstance(node, ast.Expr):
            dropped += _is_call(node.value, helper)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and _is_call(node.value, helper):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [_plain_names(target) for target in targets]
            here = Counter(_read_names(node))
            dropped += all(found is not None and all(read[name] == here[name] for name in found) for found in names)
    return dropped


def _read_names(tree: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]


def _plain_names(target: ast.expr) -> set[str] | None:
    """The names an assignment binds; None where it writes anything else, such as an element."""
    if isinstance(target, ast.Name):
        return {target.id}
    if not isinstance(target, ast.Tuple | ast.List):
        return None
    parts = [_plain_names(part.value if isinstance(part, ast.Starred) else part) for part in target.elts]
    return None if None in parts else {name for part in parts if part for name in part}


def _only_wraps(function: ast.FunctionDef, helper: str) -> bool:
    """The body, its docstring aside, is `return helper(...)` or `v = helper(...); return v`."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        body = body[1:]
    match body:
        case [ast.Return(value=value)]:
            return _is_call(value, helper)
        case [ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Return(value=ast.Name(id=returned))]:
            return _is_call(value, helper) and name == returned
        case [ast.AnnAssign(target=ast.Name(id=name), value=value), ast.Return(value=ast.Name(id=returned))]:
            return _is_call(value, helper) and name == returned
    return False
