"""Plain data as bytes, without pickle: what a hostile sender can make of it is another plain value or a WireError.

None, bool, int, float, complex, str, bytes, bytearray, range, list, tuple, dict, set and frozenset keep their exact type.
An instance of a *subclass* of these is sent as its plain content (a `Counter` as a dict, an `IntEnum` as an int), read
with the base class's own methods: no method of a program's class has a say in a comparison. Anything else becomes a
handle: a number and a class name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 150
"""Containers inside containers. Far below Python's recursion limit on either side."""

Handle = tuple[int, str]
MakeHandle = Callable[[object], Handle]
OpenHandle = Callable[[int, str], object]

_U32 = struct.Struct("<I")
_F64 = struct.Struct("<d")
_C128 = struct.Struct("<dd")
_CONSTANTS: dict[int, object] = {ord("N"): None, ord("T"): True, ord("F"): False}


class WireError(ValueError):
    """Bytes that are no encoding of plain data, or a value that is too large or nested too deeply to be sent."""


def encode(value: object, make_handle: MakeHandle, max_bytes: int) -> bytes:
    """The bytes of a value. `make_handle` names what is no plain data. Raises WireError where it grows too large."""
    writer = _Writer(make_handle, max_bytes)
    writer.put(value, 0)
    return bytes(writer.out)


def decode(data: bytes, open_handle: OpenHandle) -> Any:
    """The value of some bytes, with `open_handle` for what is no plain data. Raises WireError."""
    reader = _Reader(data, open_handle)
    value = reader.take(0)
    if reader.position != len(data):
        raise WireError("bytes after the end of a value")
    return value


class _Writer:
    def __init__(self, make_handle: MakeHandle, max_bytes: int) -> None:
        self.out = bytearray()
        self.make_handle = make_handle
        self.max_bytes = max_bytes

    def put(self, value: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise WireError(f"a value nested more than {MAX_DEPTH} deep")
        if len(self.out) > self.max_bytes:
            raise WireError(f"a value of more than {self.max_bytes} bytes")
        if value is None:
            self.out += b"N"
        elif isinstance(value, bool):
            self.out += b"T" if value else b"F"
        elif isinstance(value, int):
            number = int.__index__(value)
            self._sized(b"i", int.to_bytes(number, int.bit_length(number) // 8 + 1, "little", signed=True))
        elif isinstance(value, float):
            self.out += b"f" + _F64.pack(float.__float__(value))
        elif isinstance(value, str):
            self._sized(b"s", str.encode(value, "utf-8", "surrogatepass"))
        elif isinstance(value, (list, tuple, set, frozenset, dict, range)):
            self._container(value, depth)
        else:
            self._rare(value)

    def _sized(self, tag: bytes, content: bytes) -> None:
        if len(content) > self.max_bytes:
            raise WireError(f"a value of more than {self.max_bytes} bytes")
        self.out += tag + _U32.pack(len(content)) + content

    def _container(self, value: Any, depth: int) -> None:
        if isinstance(value, range):
            tag, items = b"r", [value.start, value.stop, value.step]
        elif isinstance(value, list):
            tag, items = b"l", list(list.__iter__(value))
        elif isinstance(value, tuple):
            tag, items = b"t", list(tuple.__iter__(value))
        elif isinstance(value, dict):
            tag, items = b"d", [part for pair in dict.items(value) for part in pair]
        elif isinstance(value, set):
            tag, items = b"S", list(set.__iter__(value))
        else:
            tag, items = b"z", list(frozenset.__iter__(value))
        self.out += tag + _U32.pack(len(items))
        for item in items:
            self.put(item, depth + 1)

    def _rare(self, value: object) -> None:
        if isinstance(value, complex):
            self.out += b"c" + _C128.pack(value.real, value.imag)
        elif isinstance(value, bytes):
            self._sized(b"b", bytes(memoryview(value)))
        elif isinstance(value, bytearray):
            self._sized(b"a", bytes(memoryview(value)))
        else:
            number, name = self.make_handle(value)
            self.out += b"o" + _U32.pack(number)
            self.put(name, 0)


class _Reader:
    def __init__(self, data: bytes, open_handle: OpenHandle) -> None:
        self.data = data
        self.position = 0
        self.open_handle = open_handle

    def take(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise WireError(f"a value nested more than {MAX_DEPTH} deep")
        tag = self._bytes(1)[0]
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag == ord("i"):
            return int.from_bytes(self._sized(), "little", signed=True)
        if tag == ord("f"):
            return _F64.unpack(self._bytes(8))[0]
        if tag == ord("s"):
            return self._text()
        if tag in b"ltSzdr":
            return self._container(tag, depth)
        return self._rare(tag)

    def _bytes(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise WireError("a value that breaks off")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def _count(self) -> int:
        return _U32.unpack(self._bytes(4))[0]

    def _sized(self) -> bytes:
        return self._bytes(self._count())

    def _text(self) -> str:
        try:
            return self._sized().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise WireError("text that is not UTF-8") from error

    def _container(self, tag: int, depth: int) -> Any:
        count = self._count()
        if count > len(self.data) - self.position:  # every item takes a byte at least
            raise WireError("a container that breaks off")
        items = [self.take(depth + 1) for _ in range(count)]
        if tag == ord("l"):
            return items
        if tag == ord("t"):
            return tuple(items)
        if tag == ord("r"):
            return _range(items)
        try:
            if tag == ord("d"):
                return dict(zip(items[::2], items[1::2], strict=True))
            return set(items) if tag == ord("S") else frozenset(items)
        except (TypeError, ValueError) as error:  # an unhashable item, or a key without a value
            raise WireError(f"a container that cannot be built: {error}") from error

    def _rare(self, tag: int) -> object:
        if tag == ord("c"):
            return complex(*_C128.unpack(self._bytes(16)))
        if tag == ord("b"):
            return self._sized()
        if tag == ord("a"):
            return bytearray(self._sized())
        if tag == ord("o"):
            number = self._count()
            if self._bytes(1) != b"s":
                raise WireError("a handle without a name")
            return self.open_handle(number, self._text())
        raise WireError(f"an unknown tag {tag}")


def _range(items: list[Any]) -> range:
    if len(items) != 3 or any(type(item) is not int for item in items) or items[2] == 0:
        raise WireError("a range that cannot be built")
    return range(*items)
