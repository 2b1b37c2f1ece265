"""Speed and memory on a GPU, with random weights: `python benchmarks/gpu.py [--wheels DIR] [--minutes M] [--out FILE]`.

Qwen3 shapes of 0.6B, 1.7B and 4B and the paper's coding team (Qwen2.5-Coder-3B, Qwen3-4B, a Coder-3B critic). Measured are the
device's own rates, tokens per second of decoding against the rate at which weights can be read, updates (tokens per second,
share of the matmul rate), and the team's seconds per update and per sample with its peak of memory. Every part is written
to the results file as soon as it is there; what time or memory does not allow says so. Runs on a bare machine: see
benchmarks/README.md. `--tiny` goes through the same code with tiny shapes, on a CPU too. The last line of output is the results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

if TYPE_CHECKING:
    from gpu_bench.results import Results

NO_GPU = "No GPU was available when this was made: the numbers are a CPU's, of tiny shapes, and prove no more than that the script runs."
SECONDS = {"roof": 15, "decode": 100, "update": 70, "team_lora": 100, "team_full": 100, "graphs": 50}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install into a temporary place first, without a network")
    parser.add_argument("--minutes", type=float, default=7.5, help="most time for everything after the imports (default: 7.5)")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: a proof that the script runs")
    parser.add_argument("--sections", nargs="+", choices=list(SECONDS), default=list(SECONDS), help="only these (default: all)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    return parser.parse_args()


def measure(chosen: argparse.Namespace) -> Results:
    """All sections in order. Imports wait until here, for the wheels."""
    import torch
    from gpu_bench import decode, kernels, team, update
    from gpu_bench.arithmetic import PAPER, verdicts
    from gpu_bench.machine import describe
    from gpu_bench.results import Clock, Results, refuse_overwrite, run_section
    from gpu_bench.shapes import PROOF, REAL

    on_gpu = torch.cuda.is_available()
    if not on_gpu and not chosen.tiny:
        raise SystemExit("torch sees no GPU here; --tiny proves the script on a CPU")
    refuse_overwrite(json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.is_file() else None, on_gpu)
    device, sizes = torch.device("cuda" if on_gpu else "cpu"), PROOF if chosen.tiny else REAL
    about: dict[str, Any] = {"gpu_available": on_gpu, "tiny": chosen.tiny, "note": "" if on_gpu else NO_GPU}
    about |= {"machine": describe(device), "date": datetime.now(UTC).date().isoformat(), "paper": PAPER}
    results, clock, roof = Results(chosen.out, about), Clock(60 * chosen.minutes), kernels.Roof()
    works = {
        "roof": partial(kernels.measure, device=device, sizes=sizes, roof=roof),
        "decode": partial(decode.measure, device=device, sizes=sizes, roof=roof),
        "update": partial(update.measure, device=device, sizes=sizes, roof=roof),
        "team_lora": partial(team.measure, device=device, sizes=sizes, tuning="lora"),
        "team_full": partial(team.measure, device=device, sizes=sizes, tuning="full"),
        "graphs": partial(decode.measure_graphs, device=device, sizes=sizes, roof=roof),
    }
    # Decoding and updates are given as shares of the roof.
    for name in [n for n in works if n in chosen.sections or n == "roof"]:
        run_section(results, name, clock.part(SECONDS[name]), partial(works[name], results))
    if on_gpu and not chosen.tiny:
        results.put(verdicts=verdicts(results.content["sections"]))
    return results


def main() -> None:
    chosen = arguments()
    with tempfile.TemporaryDirectory() as site:
        if chosen.wheels is not None:
            from gpu_bench.bare import bring

            bring(chosen.wheels, Path(site))
        results = measure(chosen)
    print(json.dumps(results.content))
    if results.failed:
        raise SystemExit(f"failed: {', '.join(results.failed)}")


if __name__ == "__main__":
    main()
