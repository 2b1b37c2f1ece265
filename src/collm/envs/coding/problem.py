"""A coding problem, from a row of CoopHumanEval, HumanEval (prompt, entry_point, test) or MBPP (text, test_list)."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collm.envs.coding.asserts import CANDIDATE, Suite, split_check, split_list
from collm.envs.coding.source import SourceError, parse_source, syntax_tree
from collm.errors import DataError

CHECK_EXAMPLE = '{"task_id": ..., "prompt": "def f(x): ...", "entry_point": "f", "test": "def check(candidate): assert candidate(1) == 1"}'


@dataclass(frozen=True, slots=True)
class Problem:
    """What the agents are asked and how their program is tested."""

    task_id: str
    prompt: str
    entry_point: str
    signature: str
    """As in `solve(values)`; of parameters that are not known `solve(...)`."""
    imports: tuple[str, ...]
    """The prompt's, one statement each."""
    helpers: str
    """What the prompt defines beside the entry point; part of the program and of the tests' preamble."""
    suite: Suite
    shown: tuple[str, ...]
    """The tests as people read them, with the entry point's own name."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Problem:
        return self  # immutable throughout


def read_problem(row: object, where: str = "task") -> Problem:
    """The problem of a row. Raises DataError naming `where`, the field, what is wrong and how to mend it."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected a row like {CHECK_EXAMPLE}, got {type(row).__name__}")
    if "test_list" in row:
        return _mbpp(row, where)
    prompt, entry_point = _text(row, "prompt", where), _text(row, "entry_point", where)
    if not entry_point.isidentifier():
        raise DataError(f"{where}, field 'entry_point': {entry_point!r} is not a function's name; write it without brackets")
    test = _text(row, "test", where)
    imports, helpers, signature = _parts_of_prompt(prompt, entry_point, f"{where}, field 'prompt'")
    try:
        suite = split_check(test, "\n".join([*imports, helpers]))
    except DataError as error:
        error.add_place(f"{where}, field 'test'")
        raise
    return _problem(row, prompt, entry_point, signature, imports, helpers, suite)


def _mbpp(row: Mapping[str, Any], where: str) -> Problem:
    text = _text(row, "text" if "text" in row or "prompt" not in row else "prompt", where)
    tests = row["test_list"]
    if isinstance(tests, str) or not isinstance(tests, Sequence) or not all(isinstance(test, str) for test in tests):
        raise DataError(f"{where}, field 'test_list': expected a list of asserts as texts, got {str(tests)[:60]}")
    imports = row.get("test_imports") or []
    if isinstance(imports, str) or not isinstance(imports, Sequence) or not all(isinstance(line, str) for line in imports):
        raise DataError(f"{where}, field 'test_imports': expected a list of import lines as texts, got {str(imports)[:60]}")
    given = _optional_text(row, "test_setup_code", where) if row.get("test_setup_code") is not None else ""
    setup = given or "\n".join(imports)
    try:
        suite = split_list(tests, setup)
    except DataError as error:
        error.add_place(f"{where}, field 'test_list'")
        raise
    code = _optional_text(row, "code", where)
    entry_point, signature = _called(suite, code, where)
    prompt = "\n".join([text.strip(), "It has to pass these tests:", *suite.asserts])
    return _problem(row, prompt, entry_point, signature, (), "", suite)


def _problem(
    row: Mapping[str, Any], prompt: str, entry_point: str, signature: str, imports: Sequence[str], helpers: str, suite: Suite
) -> Problem:
    shown = tuple(re.sub(rf"\b{CANDIDATE}\b", entry_point, test) for test in suite.asserts)
    return Problem(str(row.get("task_id", "")), prompt.strip("\n"), entry_point, signature, tuple(imports), helpers, suite, shown)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    if field not in row:
        has = ", ".join(map(str, row)) or "none"
        raise DataError(f"{where}: field {field!r} is missing (fields: {has}); a row is like {CHECK_EXAMPLE}")
    value = _optional_text(row, field, where)
    if not value.strip():
        raise DataError(f"{where}, field {field!r}: is empty; fill it in")
    return value


def _optional_text(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field, "")
    if not isinstance(value, str):
        raise DataError(f"{where}, field {field!r}: expected text, got {str(value)[:60]} ({type(value).__name__})")
    return value


def _parts_of_prompt(prompt: str, entry_point: str, where: str) -> tuple[list[str], str, str]:
    """Imports, other definitions and signature. A prompt may be plain English: it then has none of them."""
    tree = parse_source(prompt)
    if isinstance(tree, SourceError):
        tree = parse_source(prompt.rstrip() + "\n    pass\n")  # one that ends with the def line
    if isinstance(tree, SourceError):
        if re.search(rf"^def\s+{entry_point}\b", prompt, re.MULTILINE):
            raise DataError(f"{where}: is not Python: {tree.message} (line {tree.line}); it is read for its imports and its signature")
        return [], "", f"{entry_point}(...)"
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    entry = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry_point]
    kept = [node for node in tree.body if node not in imports and node not in entry and not _is_text(node)]
    if not entry and any(isinstance(node, ast.FunctionDef) for node in tree.body):
        raise DataError(f"{where}: defines no {entry_point}, which field 'entry_point' names; give both the same name")
    signature = _signature(entry[-1]) if entry else f"{entry_point}(...)"
    return [ast.unparse(node) for node in imports], "\n\n".join(map(ast.unparse, kept)), signature


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _signature(function: ast.FunctionDef) -> str:
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    return f"{function.name}({ast.unparse(arguments)})"


def _called(suite: Suite, code: str, where: str) -> tuple[str, str]:
    """The function that MBPP's tests are about, and its signature: of those the reference defines the first that the tests
    call, else the only function they call that is neither built in nor set up by them."""
    tree = parse_source(code)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)} if isinstance(tree, ast.Module) else {}
    called: list[str] = []
    for test in suite.asserts:
        calls = [node.func for node in ast.walk(syntax_tree(test)) if isinstance(node, ast.Call)]
        called += [function.id for function in calls if isinstance(function, ast.Name)]
    known = [name for name in called if name in defined]
    if known:
        return known[0], _signature(defined[known[0]])
    others = [name for name in dict.fromkeys(called) if not hasattr(builtins, name) and not re.search(rf"\b{name}\b", suite.preamble)]
    if len(others) != 1:
        found = ", ".join(others) or "none"
        raise DataError(
            f"{where}, field 'test_list': the tests call {found}; give a reference in field 'code' that defines the one they are about"
        )
    return others[0], f"{others[0]}(...)"
