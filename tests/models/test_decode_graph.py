"""A recorded decoding step does what the step does. CUDA graphs are played here by a tape:

it replays operations on the tensors that were there when it was recorded, knows nothing of Python's variables, and refuses
operations for which the host would have to wait for a device or send it something.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.decode_graph import FixedStep, graphs_on
from collm.models.decode_step import DecodeStep
from collm.models.generation import Generation, GenerationRequest
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.passes import DecoderPasses
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.team import _alone_on_gpus

CPU = torch.device("cpu")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "is_nonzero", "unique", "equal")


class Tape(TorchDispatchMode):
    """The operations of a function, and where their results went."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not name.startswith(WAITS), f"{name} makes the host wait for the device"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tree_leaves(out)))
        return out

    def replay(self) -> None:
        for func, args, kwargs, before in self.calls:
            for old, new in zip(before, tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


class Recorder:
    """Records on tapes and counts replays."""

    def __init__(self) -> None:
        self.tapes = self.replays = 0

    def __call__(self, work: Callable[[], object]) -> Callable[[], object]:
        assert isinstance(work, FixedStep)
        self.tapes += 1
        # A tape runs what it records, a graph does not.
        before = [t.clone() for t in work.state()]
        with Tape() as tape:
            work()
        work.restore(before)

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay


LOADED = {name: small_model(name, dtype=torch.float64) for name in ("qwen3", "llama")}


def host(record: Any, loaded: Any = None, new: int = 40, stops: frozenset[int] = frozenset({-5}), rule: SupportRule | None = None) -> Host:
    made = Host("h", loaded or LOADED["qwen3"], CPU, 10**6, False)
    made.record_steps(record)
    made.add_policy("p", DecodeSpec(rule or SupportRule(0.9), new, stops), OptimizerConfig(learning_rate=0.05), None, 0)
    return made


def requests(lengths: list[int], greedy: bool = False) -> list[GenerationRequest]:
    return [
        GenerationRequest("p", i, None, tuple((7 * i + 3 * j) % 90 + 40 for j in range(n)), i, greedy and i % 2 == 0)
        for i, n in enumerate(lengths)
    ]


def same(found: list[Generation], expected: list[Generation]) -> None:
    assert [(g.response_ids, g.stop) for g in found] == [(g.response_ids, g.stop) for g in expected]
    assert [g.logprob for g in found] == pytest.approx([g.logprob for g in expected], abs=1e-9)
    assert [g.kept_mass for g in found] == pytest.approx([g.kept_mass for g in expected], abs=1e-9)


@pytest.mark.parametrize("architecture", list(LOADED))
@pytest.mark.parametrize("rule", [SupportRule(), SupportRule(0.7, top_p=0.8), SupportRule(1.2, top_k=5)])
def test_replayed_steps_give_the_answers_of_steps(architecture, rule):
    record = Recorder()
    asked = requests([3, 17, 9, 1], greedy=True)
    found = host(record, LOADED[architecture], rule=rule).generate(asked)
    same(found, host(None, LOADED[architecture], rule=rule).generate(asked))
    # 1 token from the context, 7 steps as they are, 1 replay as a trial, the rest replayed.
    assert (record.tapes, record.replays) == (1, 1 + 40 - 1 - 7)


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    late=st.integers(0, 4),
    wait=st.integers(1, 30),
    n_stops=st.integers(0, 6),
)
def test_rows_come_and_go_between_recordings(lengths, late, wait, n_stops):
    stops = frozenset(range(60, 60 + n_stops)) or frozenset({-5})
    asked = requests(lengths)
    expected = dict(zip((r.key for r in asked), host(None, stops=stops).generate(asked), strict=True))
    batch = host(Recorder(), stops=stops).open_batch()
    first = max(1, len(asked) - late)
    batch.admit(asked[:first])
    answers = batch.decode(wait)
    batch.admit(asked[first:])
    answers += batch.decode()
    assert len(answers) == len(asked)
    same([g for _, g in answers], [expected[r.key] for r, _ in answers])


def test_the_next_turn_reads_what_replays_left_in_the_caches():
    found: list[list[Generation]] = []
    for record in (None, Recorder()):
        h = host(record)
        first = requests([5, 12, 8])
        answers = h.generate(first)
        longer = [
            GenerationRequest("p", ("second", i), r.key, (*r.context_ids, *a.response_ids, 41, 42), 9 + i, False)
            for i, (r, a) in enumerate(zip(first, answers, strict=True))
        ]
        found.append(answers + h.generate(longer))
    same(found[1], found[0])


def test_a_batch_that_ends_soon_is_not_recorded():
    record = Recorder()
    host(record, new=20).generate(requests([4, 4]))
    assert record.tapes == 0


def test_layers_with_adapters_are_not_recorded():
    record = Recorder()
    h = Host("h", small_model("qwen3"), CPU, 10**6, False)
    h.record_steps(record)
    h.add_policy("p", DecodeSpec(SupportRule(), 40, frozenset({-5})), OptimizerConfig(), LoraConfig(rank=2), 0)
    assert len(h.generate(requests([4, 4]))[0].response_ids) == 40
    assert record.tapes == 0


def test_a_recording_that_does_something_else_is_not_used():
    def nothing(work: Callable[[], object]) -> Callable[[], object]:
        return lambda: None

    asked = requests([6, 11])
    with pytest.warns(UserWarning, match="decoding goes on without CUDA graphs: a replay gave something else"):
        found = host(nothing).generate(asked)
    same(found, host(None).generate(asked))


def test_a_recording_that_fails_leaves_the_batch_as_it_was():
    calls = []

    def fails(work: Callable[[], object]) -> Callable[[], object]:
        calls.append(work)
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    asked, h = requests([6, 11]), host(fails)
    with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted"):
        found = h.generate(asked)
    same(found, host(None).generate(asked))
    h.forget()
    same(h.generate(asked), found)
    assert len(calls) == 1


def test_what_a_graph_points_to_is_kept():
    """A graph holds no references: here it is a weak one to the step."""

    def weak(work: Callable[[], object]) -> Callable[[], object]:
        held = weakref.ref(work)
        return lambda: held()()  # type: ignore[misc]

    asked = requests([6, 11])
    same(host(weak).generate(asked), host(None).generate(asked))


def in_bf16(self: DecoderPasses, *, keep_casts: bool = True) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=keep_casts)


@torch.no_grad()
def test_narrow_copies_give_what_autocast_gives(monkeypatch):
    monkeypatch.setattr(DecoderPasses, "autocast", in_bf16)
    model = small_model("qwen3").model
    found = []
    for narrow in (None, torch.bfloat16):
        step = DecodeStep(model, narrow)
        step.reserve(4)
        with in_bf16(None):  # type: ignore[arg-type]
            found.append(step.logits_into(torch.tensor([5, 6]), torch.tensor([0, 3]), None, [Passed()] * model.config.num_hidden_layers))
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(*found)


class Passed:
    """A cache of nothing but the new column."""

    def append(self, key_BKd: torch.Tensor, value_BKd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return key_BKd[:, :, None].to(value_BKd.dtype), value_BKd[:, :, None]


@pytest.mark.parametrize("change", ["step", "load"])
def test_narrow_copies_do_not_outlive_the_weights(monkeypatch, change):
    monkeypatch.setattr(DecoderPasses, "autocast", in_bf16)
    record = Recorder()
    changed = host(record, small_model("qwen3"))
    before = changed.generate(requests([6, 11]))
    for p in changed.members["p"].parameters:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    if change == "step":
        changed.step("p", Progress(0, 1))
    else:
        other = host(None, small_model("qwen3"))
        for p in other.members["p"].parameters:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
        other.step("p", Progress(0, 1))
        changed.load_state(other.state())
    replays = record.replays
    after = changed.generate(requests([6, 11]))
    assert record.replays > replays
    fresh = host(Recorder(), small_model("qwen3"))
    fresh.load_state(changed.state())
    # The first steps are not recorded; what comes after them must be of the same weights.
    assert [g.response_ids for g in after] == [g.response_ids for g in fresh.generate(requests([6, 11]))]
    assert [g.response_ids for g in after] != [g.response_ids for g in before]


def test_a_fixed_step_is_compared_with_the_plain_one(monkeypatch):
    """Wrong in the same way when it is called and when it is replayed."""
    through = DecodeStep.logits_into
    monkeypatch.setattr(DecodeStep, "logits_into", lambda *args: 1.1 * through(*args))
    asked = requests([6, 11])
    with pytest.warns(UserWarning, match="a replay gave something else"):
        found = host(Recorder()).generate(asked)
    same(found, host(None).generate(asked))


def test_a_batch_kept_over_new_weights_is_decoded_with_them():
    other = host(None, small_model("qwen3", dtype=torch.float64))
    for p in other.members["p"].parameters:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)
    other.step("p", Progress(0, 1))
    found, record = [], Recorder()
    for way in (None, record):
        h = host(way, small_model("qwen3", dtype=torch.float64))
        batch = h.open_batch()
        batch.admit(requests([6, 11]))
        assert not batch.decode(20)
        replays = record.replays
        h.load_state(other.state())
        found.append([g for _, g in batch.decode()])
    assert record.replays == replays > 1
    same(found[1], found[0])


def test_only_a_host_alone_on_gpus_records():
    first, second, third = (host(None) for _ in range(3))
    for name, h in (("a", first), ("b", second), ("c", third)):
        h.name = name
    assert _alone_on_gpus([first, second]) is None
    first.device = torch.device("cuda")
    assert _alone_on_gpus([first, second, first]) is first
    third.device = torch.device("cuda:1")
    assert _alone_on_gpus([first, second, third]) is None


def test_a_cpu_has_no_graphs():
    assert graphs_on(CPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_on_a_gpu_give_the_answers_of_steps():
    device, calls = torch.device("cuda"), []
    graphs = graphs_on(device)
    assert graphs is not None

    def counted(work: Callable[[], object]) -> Callable[[], object]:
        replay = graphs(work)
        return lambda: (calls.append(1), replay())

    found = []
    for record in (None, counted):
        h = Host("h", small_model("qwen3"), device, 10**6, False)
        h.record_steps(record)
        h.add_policy("p", DecodeSpec(SupportRule(0.9), 40, frozenset({-5})), OptimizerConfig(), None, 0)
        found.append(h.generate(requests([3, 17, 9, 1])))
    assert len(calls) > 10
    # In bf16 both: what attention goes over differs in its columns, so a draw may differ where two tokens are all but equal.
    alike = [a.response_ids[:12] == b.response_ids[:12] for a, b in zip(*found, strict=True)]
    assert sum(alike) >= 3
