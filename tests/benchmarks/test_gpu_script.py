"""The GPU benchmark: its arithmetic, its results file, and the whole script with tiny shapes on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_bench.arithmetic import roof_tokens_per_second, roof_with_cache, share, update_flops, verdicts  # noqa: E402
from gpu_bench.results import Clock, Results, Skipped, attempt, needs_memory, refuse_overwrite, run_cases, run_section  # noqa: E402
from gpu_bench.shapes import CODER_3B, PROOF, QWEN3_06B, QWEN3_4B, QWEN3_17B, TINY, TINY_CODER, Shape  # noqa: E402

TEN = Shape("ten", "qwen3", hidden=10, mlp=20, layers=1, heads=2, kv_heads=1, head_dim=5, vocabulary=100)


@pytest.mark.parametrize(
    ("shape", "published", "without_embedding"),
    # The model cards: all parameters, and those outside the embedding to two or three digits.
    [(QWEN3_06B, 0.596e9, 0.44e9), (QWEN3_17B, 1.721e9, 1.41e9), (QWEN3_4B, 4.022e9, 3.63e9), (CODER_3B, 3.09e9, 2.77e9)],
)
def test_parameter_counts_are_the_published_ones(shape: Shape, published: float, without_embedding: float) -> None:
    assert shape.parameters == pytest.approx(published, rel=0.01)
    assert shape.parameters - shape.head == pytest.approx(without_embedding, rel=0.01)


@pytest.mark.parametrize("shape", [TINY, TINY_CODER])
def test_random_models_have_the_counted_parameters_and_never_end_a_response(shape: Shape) -> None:
    from gpu_bench.machine import random_model

    from collm.models.loading import stop_ids

    loaded = random_model(shape, torch.device("cpu"), torch.float32)
    assert sum(p.numel() for p in loaded.model.parameters()) == shape.parameters
    assert min(stop_ids(loaded.model, loaded.tokenizer)) >= shape.vocabulary
    assert loaded.tokenizer("w3 w5")["input_ids"] == [3, 5]
    # A critic reads a response as many tokens as it was.
    assert loaded.tokenizer(loaded.tokenizer.decode([3, 5]))["input_ids"] == [3, 5]


def test_the_roof_is_bandwidth_over_the_bytes_of_a_step() -> None:
    assert QWEN3_4B.step_bytes == 2 * QWEN3_4B.parameters
    assert roof_tokens_per_second(QWEN3_4B, 1, 3.0e12) == pytest.approx(3.0e12 / 8.045e9, rel=1e-3)
    assert roof_tokens_per_second(QWEN3_4B, 16, 3.0e12) == pytest.approx(16 * roof_tokens_per_second(QWEN3_4B, 1, 3.0e12))
    # 36 layers, 8 heads of 128, keys and values, two bytes each.
    assert QWEN3_4B.kv_bytes_per_token == 147_456
    assert roof_with_cache(QWEN3_4B, 1, 3.0e12, 0) == roof_tokens_per_second(QWEN3_4B, 1, 3.0e12)
    assert roof_with_cache(QWEN3_4B, 1, 3.0e12, QWEN3_4B.step_bytes / 147_456) == pytest.approx(
        roof_tokens_per_second(QWEN3_4B, 1, 3.0e12) / 2
    )


def test_flops_of_an_update_by_hand() -> None:
    # q and o 10 x 10, k and v 10 x 5, three of 10 x 20; an output layer of 100 x 10.
    assert (TEN.matrices, TEN.head) == (900, 1000)
    # 2 heads of 5, 4 tokens of which half of all pairs count: 8 pairs, 12 FLOPs each and unit of width.
    attention = 12 * 10 * 8
    assert update_flops(TEN, [4], 3, "full") == 6 * (900 * 4 + 1000 * 3) + attention
    assert update_flops(TEN, [4], 3, "lora") == 4 * (900 * 4 + 1000 * 3) + attention
    assert share(3e12 / 2.0, 5e12) == 0.3
    assert share(3e12, 0.0) is None


def test_results_are_merged_and_on_disk_after_every_measurement(tmp_path: Path) -> None:
    results = Results(tmp_path / "deep" / "gpu.json", {"gpu_available": False})

    def on_disk() -> dict:
        return json.loads((tmp_path / "deep" / "gpu.json").read_text())

    results.begin("decode")
    assert on_disk() == {"gpu_available": False, "sections": {"decode": {"state": "running"}}}
    results.add("decode", rows=[{"batch": 1}])
    results.add("decode", rows=[{"batch": 16}], state="done")
    assert on_disk()["sections"]["decode"] == {"state": "done", "rows": [{"batch": 1}, {"batch": 16}]}
    results.put(verdicts={"a": 1})
    assert on_disk()["verdicts"] == {"a": 1}


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    assert attempt(lambda: needs_memory([QWEN3_4B], "full", 20 * 10**9, "Qwen3-4B")) == {
        "state": "skipped",
        "reason": "memory: Qwen3-4B needs at least 32 GB and 20 GB are free",
    }
    assert attempt(lambda: needs_memory([QWEN3_4B], "full", None, "Qwen3-4B")) == {}
    assert attempt(lambda: Clock(1.0).needs(60, "the team"))["reason"] == "time: the team takes about 60 s and 1 s are left"

    def out_of_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    assert attempt(out_of_memory)["reason"] == "memory: CUDA out of memory. Tried to allocate 2 GiB."
    with pytest.raises(Skipped):
        Clock(10.0).part(2.0).needs(5, "a section")


def test_an_error_in_one_section_is_written_down_and_the_others_still_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(tmp_path / "gpu.json", {})

    def broken(_: Clock) -> None:
        raise ValueError("a shape is wrong")

    run_section(results, "decode", Clock(10), broken)
    run_section(results, "update", Clock(10), lambda _: results.add("update", rows=[1]))
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert sections["decode"]["reason"] == "ValueError: a shape is wrong"
    assert "in broken" in "".join(sections["decode"]["traceback"])
    assert (sections["update"]["state"], sections["update"]["rows"]) == ("done", [1])
    assert results.failed == ["decode"]
    assert "a shape is wrong" in capsys.readouterr().out


def test_an_error_in_one_case_is_written_down_and_the_others_still_run(tmp_path: Path) -> None:
    results, released = Results(tmp_path / "gpu.json", {}), []

    def broken(_: Clock) -> None:
        raise ValueError("a shape is wrong")

    def late(own: Clock) -> None:
        own.needs(60, "this")

    cases = [({"model": "a"}, broken), ({"model": "b"}, lambda _: results.add("decode", rows=[1])), ({"model": "c"}, late)]
    run_section(results, "decode", Clock(10), lambda clock: run_cases(results, "decode", clock, lambda: released.append(1), cases))
    section = json.loads((tmp_path / "gpu.json").read_text())["sections"]["decode"]
    assert (section["rows"], len(released)) == ([1], 3)
    assert [(x["model"], x["state"], x["reason"]) for x in section["left_out"]] == [
        ("a", "failed", "ValueError: a shape is wrong"),
        ("c", "skipped", "time: this takes about 60 s and 10 s are left"),
    ]
    assert section["reason"] == "CaseFailed: 1 of 3 cases failed: see left_out"
    assert results.failed == ["decode"]


def test_recorded_steps_are_measured_apart_and_only_where_every_call_recorded_them(tmp_path: Path, monkeypatch) -> None:
    from gpu_bench import decode
    from gpu_bench.kernels import Roof

    # A function that works on tensors that stay where they are is its own recording.
    monkeypatch.setattr(decode, "graphs_on", lambda _: lambda work: work)
    results, cpu = Results(tmp_path / "gpu.json", {}), torch.device("cpu")
    decode.measure_graphs(results, Clock(600), cpu, PROOF, Roof(1e10, 1e11))
    rows = results.content["sections"]["graphs"]["rows"]
    assert [(row["batch"], row["rule"]) for row in rows[:3]] == [(1, "plain"), (4, "plain"), (4, "paper")]
    assert all(row["own_decoding_step"] and row["share_of_roof"] > 0 for row in rows)
    monkeypatch.setattr(decode, "RECORDED_TOKENS", 8)
    results = Results(tmp_path / "other.json", {})
    decode.measure_graphs(results, Clock(600), cpu, PROOF, Roof())
    assert "not every call of 8 tokens" in results.content["sections"]["graphs"]["left_out"][0]["reason"]


def test_a_proof_on_a_cpu_does_not_replace_numbers_of_a_gpu() -> None:
    refuse_overwrite(None, on_gpu=False)
    refuse_overwrite({"gpu_available": False}, on_gpu=False)
    refuse_overwrite({"gpu_available": True}, on_gpu=True)
    with pytest.raises(SystemExit, match="numbers of a GPU"):
        refuse_overwrite({"gpu_available": True}, on_gpu=False)


def test_verdicts_take_the_worst_decoding_and_memory_and_the_best_schedule() -> None:
    def decode(share: float, batch: int = 1, model: str = "Qwen3-4B", tuning: str = "full", rule: str = "plain") -> dict:
        return {"model": model, "tuning": tuning, "rule": rule, "batch": batch, "share_of_roof": share}

    def schedule(name: str, in_flight: int, update: float, sample: float, peak: float) -> dict:
        numbers = {"seconds_per_update": update, "seconds_per_sample": sample, "peak_gb": peak}
        return {"schedule": name, "episodes_in_flight": in_flight, **numbers}

    rows = [
        schedule("paper", 2, 4.0, 1.0, 90.0),
        schedule("16 in flight", 16, 20.0, 0.6, 101.0),
        schedule("32 in flight", 32, 30.0, 0.4, 99.0),
    ]
    found = verdicts(
        {
            "decode": {
                # Of a batch of 16 by steps and by recorded ones: the better way is what is to be had.
                "rows": [decode(0.7), decode(0.2, 16), decode(0.1, rule="paper"), decode(0.1, model="Qwen3-0.6B")]
            },
            "graphs": {"rows": [decode(0.55, 16)]},
            "team_full": {"rows": rows},
        }
    )
    assert found["decode_share_4b"] == {"target": 0.5, "value": 0.55, "met": True, "batches": [1, 16]}
    assert found["seconds_per_update_full"] == {"target": 4.5, "value": 4.0, "met": True}
    assert found["seconds_per_sample_full"] == {"target": 0.47, "value": 0.4, "met": True}
    assert found["memory_gb_full"] == {"target": 100.0, "value": 101.0, "met": False}
    assert found["memory_gb_lora"] == {"target": 28.0, "value": None, "met": None}


@pytest.mark.slow
def test_the_whole_script_runs_with_tiny_shapes(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found == json.loads(done.stdout.splitlines()[-1])
    states = {name: section["state"] for name, section in found["sections"].items()}
    on_gpu = torch.cuda.is_available()
    assert states == {
        **dict.fromkeys(["roof", "decode", "update", "team_lora", "team_full"], "done"),
        "graphs": "done" if on_gpu else "skipped",
    }
    assert not any("left_out" in section for section in found["sections"].values())
    if not on_gpu:
        assert found["note"].startswith("No GPU was available")
    hosts = found["sections"]["team_lora"]["hosts"]
    # Aux and critic are two adapters on one base.
    assert sorted(map(sorted, hosts.values())) == [["agent_0", "critic"], ["agent_1"]]
    assert [row["samples_per_update"] for row in found["sections"]["team_full"]["rows"]] == [4, 8]
    assert all(row["seconds_per_sample"] > 0 for row in found["sections"]["team_full"]["rows"])
