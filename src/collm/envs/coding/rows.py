"""The problems that come with the project (problems.jsonl, made by scripts/make_coding_problems.py), in two layouts."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from collm.envs.coding.problem import read_problem
from collm.envs.coding.source import syntax_tree

_FILE = Path(__file__).with_name("problems.jsonl")
_MBPP_TESTS = 3
"""As many as MBPP gives, all of them in the prompt."""


@cache
def built_in_rows() -> tuple[Mapping[str, Any], ...]:
    """Rows 0:32 train, 32:40 held-out combinations of the same parts, 40: harder and more varied problems."""
    return tuple(json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines())


@cache
def built_in_mbpp_rows() -> tuple[Mapping[str, Any], ...]:
    """The same problems in MBPP's layout: text, code, test_list, test_setup_code."""
    return tuple(_as_mbpp(row) for row in built_in_rows())


def _as_mbpp(row: Mapping[str, Any]) -> Mapping[str, Any]:
    problem = read_problem(row)
    entry = next(node for node in syntax_tree(row["prompt"]).body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point)
    return {
        "task_id": row["task_id"],
        "text": (ast.get_docstring(entry) or "").partition(">>>")[0].strip(),
        "code": f"{row['reference_aux']}\n{row['reference_main']}",
        "test_list": list(problem.shown[:_MBPP_TESTS]),
        "test_setup_code": problem.suite.preamble,
        "level": row["level"],
    }
