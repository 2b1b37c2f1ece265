"""Which rows belong to which method, and running them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from collm.errors import CollmError
from collm.verify.problems import Bench
from collm.verify.rows_actor_critic import converged_rows, forgetting_rows, wrong_critic_rows
from collm.verify.rows_critics import critic_rows, shared_backbone_row
from collm.verify.rows_monte_carlo import CHAINS, SINGLE, TEAM, group_max_row, magrpo_std_row, unbiased_rows
from collm.verify.rows_rollout import LAB, calls_rows, laboratory_rows
from collm.verify.rows_stale import stale_critic_row, stale_rows, token_ratio_row
from collm.verify.rows_variance import variance_rows
from collm.verify.table import Row, Verdict

Part = Callable[[Bench], Iterator[Row]]


def _monte_carlo(algorithm: str, samples: int, *extra: Part, chains: bool = False) -> list[Part]:
    return [
        partial(unbiased_rows, algorithm=algorithm, label=algorithm, cases=TEAM + CHAINS if chains else TEAM),
        partial(stale_rows, algorithm=algorithm, samples=samples, label=algorithm, single=False),
        *extra,
        partial(calls_rows, method=algorithm, greedy=algorithm == "maremax"),
    ]


def _single_agent(label: str, algorithm: str, *extra: Part) -> list[Part]:
    return [
        partial(unbiased_rows, algorithm=algorithm, label=label, cases=SINGLE),
        partial(stale_rows, algorithm=algorithm, samples=2, label=label, single=True),
        *extra,
    ]


def _actor_critic(algorithm: str, *extra: Part) -> list[Part]:
    return [
        partial(converged_rows, algorithm=algorithm, problem="long", label=algorithm),
        partial(converged_rows, algorithm=algorithm, problem="blind", label=algorithm),
        partial(wrong_critic_rows, algorithm=algorithm, problem="long", label=algorithm),
        partial(forgetting_rows, algorithm=algorithm, problem="blind"),
        partial(critic_rows, algorithm=algorithm, problem="pair"),
        partial(stale_critic_row, algorithm=algorithm),
        *extra,
        partial(calls_rows, method=algorithm, chain=True),
    ]


METHODS: dict[str, list[Part]] = {
    "ma-reinforce": _monte_carlo("ma-reinforce", 1, token_ratio_row, variance_rows, chains=True),
    "magrpo": _monte_carlo("magrpo", 3, partial(magrpo_std_row, label="magrpo", problem="words", samples=3)),
    "marloo": _monte_carlo("marloo", 3),
    "maremax": _monte_carlo("maremax", 3, partial(group_max_row, label="maremax", problem="words", samples=3)),
    "collm-cc": _actor_critic("collm-cc"),
    "collm-dc": _actor_critic("collm-dc", partial(shared_backbone_row, problem="pair")),
    "grpo": _single_agent("grpo", "magrpo", partial(magrpo_std_row, label="grpo", problem="mono", samples=2)),
    "rloo": _single_agent("rloo", "marloo"),
    "remax": _single_agent("remax", "maremax", partial(group_max_row, label="remax", problem="mono", samples=2)),
    "ac": [
        partial(converged_rows, algorithm="collm-cc", problem="alone", label="ac"),
        partial(wrong_critic_rows, algorithm="collm-cc", problem="alone", label="ac"),
    ],
}
"""Every method's rows, in the order of the table; the last four are single-agent presets of the algorithms above them."""


def verify(methods: Sequence[str], announce: Callable[[str], None] = lambda _: None) -> list[Row]:
    """The rows of these methods (all where empty), after the laboratory's own; `announce` is told what is being worked on."""
    bench = Bench()
    rows: list[Row] = []
    with _one_thread(), _no_garbage_collection():
        for method in [LAB, *(m for m in METHODS if not methods or m in methods)]:
            announce(method)
            for part in [laboratory_rows] if method == LAB else METHODS[method]:
                rows += run_part(part, bench, method)
    return rows


def run_part(part: Part, bench: Bench, method: str) -> list[Row]:
    """Some rows; one that fails where production refuses what it should be able to do."""
    rows: list[Row] = []
    try:
        rows.extend(part(bench))
    except CollmError as error:
        rows.append(Row(method, "production raised an error", "", Verdict.FAIL, note=str(error)))
    return rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """Models of a thousand weights are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Episodes are kept by the hundred thousand and have no cycles; to look for some again and again takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
