"""Seeds derived from names and counters.

No generator state is carried through a run: every draw is a function of (run seed, what it is for, counters), so a
resumed run repeats the interrupted one exactly and evaluation cannot disturb training.
"""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.blake2b("/".join(str(p) for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
