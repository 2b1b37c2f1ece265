"""Length-prefixed messages over file descriptors and sockets."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<I")


class FrameError(ValueError):
    """A message that is longer than allowed."""


def write_all(fd: int, data: bytes) -> None:
    """Writes everything. Raises OSError, in particular BrokenPipeError where nobody reads any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def send_frame(fd: int, payload: bytes) -> None:
    write_all(fd, _LENGTH.pack(len(payload)) + payload)


def receive_frame(fd: int, max_bytes: int) -> bytes:
    """The next message. Raises EOFError at the end of the stream and FrameError where it is longer than `max_bytes`."""
    (length,) = _LENGTH.unpack(_read_exactly(fd, _LENGTH.size))
    if length > max_bytes:
        raise FrameError(f"a message of {length} bytes, more than the {max_bytes} allowed")
    return _read_exactly(fd, length)


def _read_exactly(fd: int, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = os.read(fd, min(count - len(parts), 1 << 20))
        if not piece:
            raise EOFError
        parts += piece
    return bytes(parts)


def send_json(sock: socket.socket, message: Any) -> None:
    """Between trusted processes only."""
    payload = json.dumps(message).encode("ascii")
    sock.sendall(_LENGTH.pack(len(payload)) + payload)


def receive_json(sock: socket.socket) -> Any:
    """The next message. Raises EOFError at the end of the stream."""
    (length,) = _LENGTH.unpack(_receive_exactly(sock, _LENGTH.size))
    return json.loads(_receive_exactly(sock, length))


def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = sock.recv(min(count - len(parts), 1 << 20))
        if not piece:
            raise EOFError
        parts += piece
    return bytes(parts)
