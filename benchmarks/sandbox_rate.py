"""Programs per second through the sandbox: `python benchmarks/sandbox_rate.py [--seconds S] [--workers N] [--out FILE]`.

Programs and tests are made up here in the manner of HumanEval: a short function with a docstring, five asserts; three of
four are right. Each test gets a fresh process of the program, as always. For comparison the
same with a new interpreter per test and no confinement at all. Writes a JSON file; the last line of output is the same object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collm.sandbox import Job, Limits, Sandbox

HERE = Path(__file__).parent

# Of each: the function, the same with a mistake, calls of it.
PROBLEMS = [
    (
        "from typing import List\n\ndef f(numbers: List[int]) -> List[int]:\n    '''Running maximum.'''\n    best, out = None, []\n"
        "    for n in numbers:\n        best = n if best is None else max(best, n)\n        out.append(best)\n    return out\n",
        ("max(best, n)", "min(best, n)"),
        ["[1, 2, 3, 2, 3, 4, 2]", "[]", "[3, 3, 3]", "[-1, -5, 7]", "list(range(20, 0, -1))"],
    ),
    (
        "def f(text):\n    '''Words that are palindromes, longest first.'''\n    words = [w for w in text.split() if w == w[::-1]]\n"
        "    return sorted(words, key=lambda w: (-len(w), w))\n",
        ("-len(w)", "len(w)"),
        ["'level noon tree a'", "''", "'abba cdc xyz'", "'racecar ' * 10", "'A man a plan'"],
    ),
    (
        "import math\n\ndef f(n):\n    '''Prime factors of n.'''\n    out, d = [], 2\n    while d <= math.isqrt(n):\n"
        "        if n % d == 0:\n"
        "            out.append(d)\n            n //= d\n        else:\n            d += 1\n    return out + [n] if n > 1 else out\n",
        ("d += 1", "d += 2"),
        ["8", "97", "1", "2 * 3 * 5 * 7 * 11", "10403"],
    ),
    (
        "from collections import Counter\n\ndef aux(text):\n    return Counter(c for c in text.lower() if c.isalpha())\n\n"
        "def f(text):\n    '''The letters that occur most often.'''\n    counts = aux(text)\n    most = max(counts.values(), default=0)\n"
        "    return {c: n for c, n in counts.items() if n == most}\n",
        ("n == most", "n >= 1"),
        ["'a b b a c'", "''", "'Hello World'", "'xyz'", "'the quick brown fox jumps over the lazy dog'"],
    ),
]


def make_jobs(count: int) -> list[Job]:
    """Every fourth program is wrong."""
    jobs = []
    for number in range(count):
        program, (right, wrong), calls = PROBLEMS[number % len(PROBLEMS)]
        names: dict[str, Any] = {}
        exec(program, names)
        tests = tuple(f"assert candidate({call}) == {names['f'](eval(call))!r}" for call in calls)
        text = program.replace(right, wrong) if number // len(PROBLEMS) % 4 == 3 else program
        jobs.append(Job(text, tests, Limits(seconds=8.0), bind={"candidate": "f"}))
    return jobs


def measure(workers: int, seconds: float) -> dict[str, float]:
    """Programs and tests per second with so many workers, after they have started; and the processor time that each takes.

    The time counts the processes of the sandbox, their start included, whatever else the machine does meanwhile.
    """
    batch = make_jobs(16 * workers)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Sandbox(workers=workers) as box:
        verdicts = box.run_many(batch)
        if [verdict.all_passed for verdict in verdicts] != [number // len(PROBLEMS) % 4 != 3 for number in range(len(batch))]:
            raise SystemExit("the verdicts are not what they should be")
        began, programs = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            programs += len(box.run_many(batch))
        took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "programs_per_second": round(programs / took, 2),
        "tests_per_second": round(5 * programs / took, 2),
        "cpu_seconds_per_program": round(busy / (programs + len(batch)), 5),
    }


def measure_cold(seconds: float) -> float:
    """Tests per second with a new interpreter for each, one at a time, without any confinement."""
    job = make_jobs(1)[0]
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        code = f"{job.program}\ncandidate = f\n{job.tests[done % 5]}"
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        done += 1
    return done / (time.perf_counter() - began)


def machine() -> dict[str, Any]:
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=15.0, help="per measurement")
    arguments.add_argument("--workers", type=int, default=os.cpu_count(), help="at most (default: one per CPU)")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "sandbox_rate.json")
    chosen = arguments.parse_args()
    about = machine()
    with Sandbox(workers=1) as box:
        enforced = box.enforced
    rates = [measure(workers, chosen.seconds) for workers in sorted({1, chosen.workers})]
    for rate in rates:
        print("{workers} workers: {programs_per_second} programs/s, {cpu_seconds_per_program} s of processor time each".format(**rate))
    cold = measure_cold(min(chosen.seconds, 5.0))
    print(f"a new interpreter per test, unconfined, one at a time: {cold:.1f} tests/s")
    best = max(rates, key=lambda rate: rate["programs_per_second"])
    result = {
        "programs_per_second": best["programs_per_second"],
        "programs_per_minute": round(60 * best["programs_per_second"]),
        "programs_per_minute_if_all_cpus_were_free": round(60 * (os.cpu_count() or 1) / best["cpu_seconds_per_program"]),
        "tests_per_program": 5,
        "rates": rates,
        "new_interpreter_tests_per_second": round(cold, 2),
        "level": "full",
        "enforced": enforced,
        "machine": about | {"load_average_after": os.getloadavg()[0]},
        "date": datetime.now(UTC).date().isoformat(),
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
