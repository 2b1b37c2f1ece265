"""Compare the invariant runs (tests/invariants) with their pins, or pin them anew.

    .venv/bin/python scripts/pin_invariants.py                      compare all, exit code 1 if any differs
    .venv/bin/python scripts/pin_invariants.py magrpo gae           compare these
    .venv/bin/python scripts/pin_invariants.py magrpo --update      pin anew, after a change of numbers that is meant

A refactoring must not change a pinned number. Where a change is meant, update, read the printed differences and commit
pins.json with the change and the reason for it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]


def main() -> int:
    # Heavy, and only found once the paths above are set.
    import torch
    from invariants.runs import RUNS, differences, measure, read_pins, write_pins
    from transformers.utils import logging

    logging.disable_progress_bar()
    # One thread, as in the tests: small models gain nothing from more, and a busy machine loses much.
    os.sched_getaffinity = lambda _: {0}
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"runs, all where none is given: {', '.join(RUNS)}")
    parser.add_argument("--update", action="store_true", help="write what the runs give now into pins.json")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in RUNS]:
        parser.error(f"no such run: {', '.join(unknown)}; there are {', '.join(RUNS)}")
    pins = read_pins()
    changed = 0
    for name in options.names or RUNS:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, Path(folder) / "run")
        lines = differences(name, pins[name], found) if name in pins else [f"{name}: not pinned yet"]
        changed += bool(lines)
        print(f"{name}: {'as pinned' if not lines else f'{len(lines)} differences'} ({time.perf_counter() - begun:.1f} s)", flush=True)
        for line in lines:
            print(f"  {line}")
        if options.update and lines:
            # A run that is as pinned keeps its pins, so that the file changes only where numbers do.
            pins[name] = found
            write_pins(pins)
    if options.update:
        write_pins(pins)  # without the runs that are no more
        print(f"{changed} runs pinned anew" if changed else "nothing to pin anew")
        return 0
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
