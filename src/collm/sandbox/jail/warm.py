"""Modules that programs often import, loaded once before any fork, so that no program pays for them."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

# With the private root in place a module whose C library lies outside Python's own directories can no longer be loaded:
# bz2, hashlib, lzma and zlib are here for that reason too.
_MODULES = """
    abc array base64 binascii bisect bz2 calendar cmath collections collections.abc contextlib copy csv dataclasses datetime decimal
    difflib encodings.ascii encodings.latin_1 encodings.utf_16 enum fractions functools hashlib heapq html inspect io itertools json
    keyword lzma math numbers operator pprint queue random re secrets statistics string struct tempfile textwrap time timeit traceback
    types typing unicodedata weakref zlib _strptime
"""


def warm_up() -> None:
    """Loads them, but for those that this Python was built without."""
    for name in _MODULES.split():
        with suppress(ImportError):
            import_module(name)
