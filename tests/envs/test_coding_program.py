"""Clean-up of responses, the joint program and what its syntax tree says (tasks.md section 2)."""

import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.envs.coding.cleaning import clean
from collm.envs.coding.program import join_responses
from collm.envs.coding.source import MAX_RESPONSE

AUX = "def aux(x):\n    return x"
MAIN = "def f(x):\n    y = aux(x)\n    return y + 1"


def join(main, aux=AUX, **options):
    return join_responses([aux, main], ["aux", "f"], **options)


def names(text):
    return [function.name for function in clean(text).functions]


@pytest.mark.parametrize(
    "text",
    [
        AUX,
        f"Here is the helper:\n\n```python\n{AUX}\n```\nIt returns x (don't worry).",
        f"```{AUX}```",
        f"``` py\n{AUX}",
        f"~~~python\n{AUX}\n~~~",
        f"<think>\ndef aux(x): is what I need.\n</think>\n{AUX}",
        f"reasoning without a beginning </think>{AUX}",
        f"Sure!\n{AUX}\n\n\nprint(aux(3))\nThat's it.",
        AUX.replace("\n", "\r\n"),
        f"x = 1\n{AUX}\nclass C:\n    def other(self):\n        return 1\n",
    ],
)
def test_fences_reasoning_and_prose_are_dropped(text):
    (function,) = clean(text).functions
    assert (function.name, function.source, function.returns) == ("aux", AUX, True)


def test_text_that_does_not_parse_is_read_line_by_line():
    text = "\n".join(
        [
            "Helper below, isn't it nice:",
            "from typing import List",
            "from here on it gets serious",
            "@cache",
            "def aux(",
            "    x,",
            "):",
            '    """Not the',
            "end.",
            '    """',
            "# a comment in column 0",
            "    return x",
            "",
            "and prose",
            "    return 3",
            "def broken(x:",
            "    return x",
            "def later(x):",
            "    pass",
        ]
    )
    cleaned = clean(text)
    assert cleaned.imports == ("from typing import List",)
    aux, broken, later = cleaned.functions
    assert aux.source.startswith("@cache\ndef aux(")
    assert aux.source.endswith("    return x")
    assert aux.returns
    assert (broken.name, broken.returns) == ("broken", True)
    assert (later.name, later.returns) == ("later", False)


@pytest.mark.parametrize(
    ("body", "returns"),
    [
        ("return x", True),
        ("return", False),
        ("# return x\n    pass", False),
        ("if x:\n        return 1", True),
        ("yield x", False),
        ("print('return x')", False),
    ],
)
def test_a_return_needs_a_value(body, returns):
    assert clean(f"def aux(x):\n    {body}").functions[0].returns is returns
    unparsed = clean(f"def aux(x):\n    {body}\n    (\n").functions[0]
    assert unparsed.returns is returns


def test_methods_lambdas_and_coroutines_are_no_functions_of_the_program():
    assert names("class S:\n    def aux(self):\n        return 1") == []
    assert names("aux = lambda x: x\nasync def aux(x):\n    return x") == []


def test_every_agent_owns_its_function():
    program = join(f"def aux(x):\n    return 99\n\n{MAIN}", aux=f"{AUX}\n\ndef f(x):\n    return 0")
    assert program.source == f"{AUX}\n\n{MAIN}\n"
    swapped = join(AUX, aux=MAIN)
    assert [part.defined for part in swapped.parts] == [False, False]


def test_profiles_differ_in_what_they_keep():
    main = f"import math\ndef other(x):\n    return x\n\n{MAIN}"
    everything = join(main, prompt_imports=["import re", "from __future__ import annotations"], prompt_helpers="def given():\n    pass")
    assert everything.source.split("\n\n")[:3] == [
        "from __future__ import annotations\nimport re\nimport math",
        "def given():\n    pass",
        AUX,
    ]
    assert "def other" in everything.source
    released = join(main, prompt_imports=["import re"], keep="named", response_imports=False)
    assert released.source == f"import re\n\n{AUX}\n\n{MAIN}\n"


def test_the_last_of_several_definitions_counts():
    program = join("def f(x):\n    return aux(x)\n\ndef f(x):\n    pass")
    assert not program.main.defined
    assert not program.uses[0].called


def test_an_error_is_placed_in_the_part_it_stands_in():
    program = join("def f(x):\n    y = = 1\n    return y", prompt_imports=["import re"])
    assert (program.error.line, program.error.column, program.error_part) == (2, 9, "f")
    assert program.error.message == "invalid syntax"
    program = join(MAIN, aux="def aux(x:\n    return x")
    assert (program.error.line, program.error_part) == (1, "aux")
    program = join(MAIN, aux='def aux(x):\n    return "\0"')
    assert (program.error.line, program.error_part) == (0, None)


@pytest.mark.parametrize(
    ("body", "called", "ignored", "wrapper"),
    [
        ("return aux(x)", True, False, True),
        ("'''Doc.'''\n    return aux(x)", True, False, True),
        ("v = aux(x); return v", True, False, True),
        ("v: int = aux(x)\n    return (v)", True, False, True),
        ("v = aux(x)\n    return v + 1", True, False, False),
        ("return [aux(x)][0]", True, False, False),
        ("return sum(aux(x))", True, False, False),
        ("aux(x)\n    return 1", True, True, False),
        ("_ = aux(x)\n    return 1", True, True, False),
        ("a, *b = aux(x)\n    return 1", True, True, False),
        ("a, b = aux(x)\n    return b", True, False, False),
        ("x = aux(x)\n    return 1", True, True, False),
        ("aux(x)\n    y = aux(x)\n    return y - 1", True, False, False),
        ("d = {}\n    d[0] = aux(x)\n    return d", True, False, False),
        ("# aux(x)\n    return 'aux(x)'", False, False, False),
        ("g = aux\n    return g(x)", False, False, False),
        ("return x.aux(x)", False, False, False),
        ("def aux(y):\n        return y\n    return aux(x) + 1", False, False, False),
        ("return (lambda aux: aux(x) + 1)(len)", False, False, False),
        ("def inner(z):\n        return aux(z)\n    _ = inner(1)\n    return 2", True, False, False),
    ],
)
def test_use_of_the_helper(body, called, ignored, wrapper):
    program = join(f"def f(x):\n    {body}")
    assert program.error is None
    assert (program.uses[0].called, program.uses[0].ignored, program.wrapper) == (called, ignored, wrapper)


def test_a_helper_is_also_called_by_way_of_a_function_of_the_same_agent():
    main = "def step(x):\n    return aux(x) + 1\n\ndef idle(x):\n    return aux(x)\n\ndef f(x):\n    return step(x)"
    assert join(main).uses[0].called
    assert not join(main, keep="named").uses[0].called
    assert not join(main.replace("return step(x)", "return x")).uses[0].called


def test_a_wrapper_by_way_of_a_function_of_one_s_own_is_one():
    assert join("def g(x):\n    return aux(x)\ndef f(x):\n    return g(x)").wrapper
    assert not join("def g(x):\n    return aux(x) + 1\ndef f(x):\n    return g(x)").wrapper


def test_a_helper_that_nobody_wrote_is_not_called():
    dead = "def f(x):\n    return x if True else aux(x)"
    assert not join(dead, aux="").uses[0].called
    assert join(dead).uses[0].called


def test_several_helpers():
    program = join_responses([AUX, "def aux2(x):\n    return x", "def f(x):\n    aux2(x)\n    return aux(x) + 1"], ["aux", "aux2", "f"])
    assert [(use.called, use.ignored) for use in program.uses] == [(True, False), (True, True)]
    alone = join_responses(["def f(x):\n    return x"], ["f"])
    assert (alone.uses, alone.wrapper, alone.main.defined) == ((), False, True)


PIECES = [
    *("def aux(x):", "def f(x):", "def f(", "    return x", "  return", "\treturn aux(x)", "class A:", "import re", "from x import ("),
    *("@", "#", "```", "```python", "'''", '"""', "'", '"', "(", ")", "[", "]", "{", "}", "\\", ":", ";", "=", "\n", "\n\n", " ", "\t"),
    *("\r", "\0", "\ud800", "\x0c", "é", "’", "π", "aux(x)", "aux", "lambda", "if x:", "else", "await", "<think>", "</think>", "~~~"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=200),
    st.text(max_size=80),
    st.sampled_from(["all", "named"]),
)
def test_no_text_raises(text, other, keep):
    for responses in ([text, other], [other, text], [text, text]):
        program = join_responses(responses, ["aux", "f"], keep=keep)
        assert program.error is not None or program.error_part is None
        assert len(program.uses) == 1


UNITS = [
    *("(", "[", "{0:", "f(", "lambda x=", "not ", "-", "a.b", "'", '"', "'''", "\\", "\\\n", "```", "`", "~~~\n", "#", "@\n", "x=1\n"),
    *("def f(\n", "def f(x):\n    return aux(x)\n", "def f(x):\n return '''\n", "if a:\n ", "return ", "import a\n", "<think>", "</think>"),
    *("'\\", "\"'", " ", "\t", "\n", "a;", "aux(x)\n", "    v = aux(x)\n", ": return", 'f"{x}"', "\0", "\ud800", "from a import ("),
    *("x.", "a if b else "),
]


@pytest.mark.parametrize("size", [16384, pytest.param(MAX_RESPONSE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("head", ["", "def f(x):\n    "])
def test_time_is_linear_however_mangled_the_text(head, size):
    for unit in UNITS:
        text = (head + unit * (size // len(unit) + 1))[:size]
        # Quadratic time takes 16 times as long for a text 4 times as long; a busy machine may disturb one measurement, not three.
        assert any(seconds(text) < 10 * seconds(text[: size // 4]) + 0.2 for _ in range(3)), unit


def seconds(text):
    gc.disable()  # the collector's time depends on what all the tests before have left on the heap
    try:
        start = time.process_time()
        join_responses([AUX, text], ["aux", "f"])
        return time.process_time() - start
    finally:
        gc.enable()


def test_what_is_beyond_the_limit_is_not_looked_at():
    long = "x = 1\n" * (MAX_RESPONSE // 6 + 1)
    assert names(long + AUX) == []
    assert names(AUX + "\n" + long) == ["aux"]
    assert seconds("def f(x):\n" * 1_000_000) < 2
