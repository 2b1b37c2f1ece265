"""Plain data over the pipes: nothing else comes out, whatever goes in."""

from __future__ import annotations

import collections
import enum
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.sandbox.jail.wire import MAX_DEPTH, WireError, decode, encode

MANY = 1 << 20


def no_handle(value: object) -> tuple[int, str]:
    raise AssertionError(f"asked for a handle of {value!r}")


def open_handle(number: int, name: str) -> object:
    return (number, name)


def there_and_back(value: object) -> Any:
    return decode(encode(value, no_handle, MANY), open_handle)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same exact types throughout, and with NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return one == other


hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
plain = st.recursive(
    hashable | st.floats() | st.text(st.characters(codec=None)) | st.builds(bytearray, st.binary()) | st.sets(hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=100, deadline=None)
def test_plain_data_keeps_its_value_and_its_exact_types(value):
    assert same(there_and_back(value), value)


def test_odd_ends():
    for value in (1 << 100_000, -(1 << 64), -1, 0, 255, 256, range(3, 10**20, 7), range(0), "\ud800\x00", b"", {1: {2: {}}}, -0.0):
        assert same(there_and_back(value), value)


class Colour(enum.IntEnum):
    RED = 3


class Loud(list):
    def __iter__(self):
        raise AssertionError("its own method was asked")

    __len__ = __getitem__ = __eq__ = __iter__


class Empty(dict):
    def items(self):
        return []


class Text(str):
    def encode(self, *args):
        return b"other"

    __str__ = __repr__ = lambda self: "other"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (Colour.RED, 3),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.namedtuple("Point", "x y")(1, 2), (1, 2)),
        (Loud([1, 2]), [1, 2]),
        (Empty(a=1), {"a": 1}),
        (Text("mine"), "mine"),
    ],
)
def test_subclasses_come_as_their_plain_content(value, content):
    assert same(there_and_back(value), content)


def test_anything_else_is_a_handle():
    seen = []

    def make(value):
        seen.append(value)
        return len(seen) - 1, type(value).__name__

    value = [print, object(), {"key": iter([])}]
    assert decode(encode(value, make, MANY), open_handle) == [
        (0, "builtin_function_or_method"),
        (1, "object"),
        {"key": (2, "list_iterator")},
    ]


def test_too_deep_and_too_large_values_are_refused():
    nest: list = []
    for _ in range(MAX_DEPTH + 1):
        nest = [nest]
    for value in (nest, ["x" * 100] * MANY, "x" * (MANY + 1), 1 << (9 * MANY)):
        with pytest.raises(WireError):
            encode(value, no_handle, MANY)
    mine: list = []
    mine.append(mine)
    with pytest.raises(WireError, match="nested"):
        encode(mine, no_handle, MANY)


@st.composite
def damaged(draw):
    data = bytearray(encode(draw(plain), no_handle, MANY))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(st.binary(max_size=40) | damaged())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_plain_data_or_an_error(data):
    try:
        value = decode(data, open_handle)
    except WireError:
        return
    waiting = [value]
    while waiting:
        item = waiting.pop()
        assert type(item) in (type(None), bool, int, float, complex, str, bytes, bytearray, range, list, tuple, dict, set, frozenset)
        if isinstance(item, (list, tuple, set, frozenset)):
            waiting += item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"NN",
        b"i\xff\xff\xff\xff\x00",
        b"l\xff\xff\xff\xffN",
        b"d\x01\x00\x00\x00N",
        b"d\x02\x00\x00\x00l\x00\x00\x00\x00N",
        b"S\x01\x00\x00\x00l\x00\x00\x00\x00",
        b"s\x01\x00\x00\x00\xff",
        b"r\x03\x00\x00\x00NNN",
        b"r\x03\x00\x00\x00i\x01\x00\x00\x00\x00i\x01\x00\x00\x00\x00i\x01\x00\x00\x00\x00",
        b"o\x00\x00\x00\x00N",
        b"l\x01\x00\x00\x00" * 100_000 + b"N",
    ],
)
def test_broken_bytes(data):
    with pytest.raises(WireError):
        decode(data, open_handle)
