"""The tests of a problem, one by one: each assert of `check(candidate)`, or each entry of a test list, on its own.

A test on its own is the assert with the statements of `check` before it that it needs (imports, `lst = ...`). A compound
statement that holds asserts (`for _ in range(100): ...`) is one test. Asserts of a constant (`assert True`) test nothing
and are left out; messages are left out too, since they may call the candidate again.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collm.envs.coding.source import syntax_tree
from collm.errors import DataError

CANDIDATE = "candidate"


class Suite(NamedTuple):
    """What the sandbox's evaluator runs."""

    preamble: str
    """Imports and helper functions, before each test."""
    asserts: tuple[str, ...]
    calls: str | None = CANDIDATE
    """The name by which they call the entry point; None: its own."""


def split_check(test_source: str, helpers: str = "") -> Suite:
    """The tests of a HumanEval-style source that defines `check(candidate)`.

    The preamble is `helpers` (what the prompt defines beside the entry point) and what stands beside `check`, constants such
    as METADATA left out. Raises DataError where there is no `check`, it does not parse or it holds no test.
    """
    tree = _parsed(test_source)
    checks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if not checks:
        raise DataError("defines no check(candidate); write one that asserts what candidate(...) returns")
    check = checks[-1]
    parameters = [arg.arg for arg in check.args.args]
    if parameters != [CANDIDATE]:
        raise DataError(f"check takes ({', '.join(parameters)}); it takes (candidate)")
    beside = [node for node in tree.body if node not in checks and not _is_constant(node)]
    preamble = "\n".join(part for part in (helpers.strip("\n"), _unparsed(beside)) if part)
    return Suite(_seeded(preamble, test_source), _split_body(check.body))


def split_list(asserts: Sequence[str], setup: str = "") -> Suite:
    """The tests of an MBPP-style list of sources, each an assert that calls the entry point by its name; `setup` is the
    preamble. Raises DataError where one does not parse or holds no assert."""
    tests = []
    for i, source in enumerate(asserts):
        body = _parsed(source, f" {i}").body
        found = _split_body(body)
        if len(found) != 1:
            raise DataError(f" {i} holds {len(found)} asserts; write one in each entry")
        tests += found
    if not tests:
        raise DataError("is empty; give at least one assert")
    _parsed(setup)
    return Suite(_seeded(setup.strip("\n"), "\n".join(asserts)), tuple(tests), None)


def _split_body(body: Sequence[ast.stmt]) -> tuple[str, ...]:
    tests: list[str] = []
    before: list[ast.stmt] = []
    for statement in body:
        if _leaves_early(statement):
            raise DataError(f"check has a return or yield outside of an assert (line {statement.lineno}); leave it out")
        if not any(isinstance(node, ast.Assert) for node in ast.walk(statement)):
            before.append(statement)
        elif not (isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Constant)):
            test = _Messageless().visit(statement)
            tests.append(_unparsed([*_needed(test, before), test]))
    if not tests:
        raise DataError("holds no assert; write asserts of what the function returns")
    return tuple(tests)


def _needed(statement: ast.stmt, before: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Those of the earlier statements that share a name with the test, or with one that is needed.

    `candidate` does not count, nor does what every program has, such as `len`, unless an earlier statement gives it a meaning.
    """
    common = {CANDIDATE, *dir(builtins)} - {name for earlier in before for name in _names(earlier, bound=True)}
    wanted = _names(statement) - common
    needed: list[ast.stmt] = []
    for earlier in reversed(before):
        names = _names(earlier) - common
        if names & wanted:
            wanted |= names
            needed.append(earlier)
    return needed[::-1]


def _names(statement: ast.stmt, bound: bool = False) -> set[str]:
    """The names that occur in a statement, or only those it binds."""
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not (bound and isinstance(node.ctx, ast.Load)):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


class _Messageless(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        return ast.Assert(test=node.test, msg=None)


def _leaves_early(statement: ast.stmt) -> bool:
    """Whether a return or yield of `check` itself is in it: a test runs outside of a function."""
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.Await):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            stack += ast.iter_child_nodes(node)
    return False


def _is_constant(node: ast.stmt) -> bool:
    """METADATA = {...} and stray strings."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["METADATA"]


def _seeded(preamble: str, source: str) -> str:
    """Tests that draw at random draw the same every time."""
    return f"import random\nrandom.seed(0)\n{preamble}".rstrip("\n") if "random" in source else preamble


def _parsed(source: str, which: str = "") -> ast.Module:
    try:
        return syntax_tree(source)
    except SyntaxError as err:
        raise DataError(f"{which} is not Python: {err.msg} (line {err.lineno})".strip()) from err
    except (ValueError, RecursionError, MemoryError) as err:  # null bytes, nested too deeply
        raise DataError(f"{which} cannot be read as Python: {err}".strip()) from err


def _unparsed(statements: Iterable[ast.stmt]) -> str:
    return "\n".join(map(ast.unparse, statements))
