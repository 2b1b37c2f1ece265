"""Text as shown: nothing that could steer a terminal, nothing lost."""

from __future__ import annotations

import io
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from collm.reports.episode_text import abridged, long_fields, row_text, visible, wrapped

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def test_escapes_controls_and_halves_of_characters_are_written_out():
    assert visible("a\tb\x1b[2J\x07\r\n\u202eabc\ud800 \u2028é 漢") == "a   b\\x1b[2J\\x07\n\\u202eabc\\ud800 \\u2028é 漢"


@given(ANY_TEXT)
def test_visible_text_can_be_printed_anywhere(text):
    shown = visible(text)
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    shown.encode("utf-8")


@given(ANY_TEXT, st.integers(2, 40))
def test_wrapping_fits_and_loses_only_white_space(text, width):
    console = Console(file=io.StringIO(), width=100)
    lines = wrapped(text, width, console)
    if text.strip():
        assert "".join("".join(x.plain.split()) for x in lines) == "".join(visible(text).split())
        assert all(Text(x.plain.rstrip()).cell_len <= width for x in lines)


def test_indentation_stays():
    lines = wrapped("def f():\n    return 1\n\n", 20, Console(file=io.StringIO()))
    assert [x.plain for x in lines] == ["def f():", "    return 1"]


def test_texts_of_nothing_say_so():
    console = Console(file=io.StringIO())
    assert [[x.plain for x in wrapped(t, 20, console)] for t in ("", " \n")] == [["(nothing)"], ["(white space only)"]]


def test_only_long_texts_are_abridged():
    def lines(count):
        return [Text(str(i)) for i in range(count)]

    assert [x.plain for x in abridged(lines(15))] == [str(i) for i in range(15)]
    shown = [x.plain for x in abridged(lines(16))]
    assert shown == [*map(str, range(8)), "... 4 more lines: --full shows them", *map(str, range(12, 16))]


def test_a_row_on_a_line():
    assert row_text({"string": "ICML", "difficulty": 3, "words": ["a", "é"]}) == 'string ICML, difficulty 3, words ["a", "é"]'
    assert row_text(None) == ""
    row = {"task_id": 7, "prompt": "def f():\n    ...", "test": "x" * 61, "entry_point": "f"}
    assert row_text(row) == "task_id 7, entry_point f"
    assert long_fields(row) == {"prompt": "def f():\n    ...", "test": "x" * 61}
