"""Production code broken on purpose, one line at a time: the table must turn to FAIL.

A mutation replaces a piece of a production function's source. If production changes so that the piece is gone, the test
says so; give it the new piece then.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import pytest

from collm.models.passes import DecoderPasses
from collm.rollout.branch import TreeShape
from collm.verify.problems import Bench
from collm.verify.rows_actor_critic import converged_rows, wrong_critic_rows
from collm.verify.rows_critics import critic_rows
from collm.verify.rows_monte_carlo import SINGLE, TEAM, Case, magrpo_std_row, unbiased_row
from collm.verify.rows_rollout import calls_rows, sampling_row
from collm.verify.rows_stale import stale_rows
from collm.verify.run import run_part
from collm.verify.table import Verdict


def trees(algorithm: str, case: Case) -> Callable[[Bench], Sequence]:
    return lambda bench: [unbiased_row(bench, algorithm, case, algorithm)]


PAPER, DISCOUNTED = SINGLE
CROSSED = next(case for case in TEAM if case.problem == "trio" and case.shape.joint_mode == "crossed")
CROSSED_TURNS = next(case for case in TEAM if case.problem == "cross" and case.turn_weight == "paper")
# Responses of up to three tokens; temperatures other than 1.
TALK = Case("K=1, H=1, 3 tokens", "talk", TreeShape())

REINFORCE, RLOO, GRPO, REMAX = (trees(m, PAPER) for m in ("ma-reinforce", "marloo", "magrpo", "maremax"))
LONG_ANSWERS = trees("ma-reinforce", TALK)


def side_by_side(bench: Bench) -> Sequence:
    """Sequences padded to one length, where the same samples would go through the model as one tree, which has no padding."""
    with patch.object(DecoderPasses, "takes_trees", lambda self: False):
        return LONG_ANSWERS(bench)


CONVERGED = partial(converged_rows, algorithm="collm-cc", problem="alone", label="ac")
WRONG = partial(wrong_critic_rows, algorithm="collm-cc", problem="alone", label="ac")
CRITIC = partial(critic_rows, algorithm="collm-cc", problem="solo")
STALE = partial(stale_rows, algorithm="marloo", samples=2, label="rloo", single=True)
SAMPLING = lambda bench: [sampling_row(bench, "solo", TreeShape(2))]  # noqa: E731


@dataclass(frozen=True)
class Mutation:
    name: str
    where: str
    old: str
    new: str
    part: Callable


MUTATIONS = [
    # -- the log-probability of a response
    Mutation(
        "last token dropped",
        "collm.models.teacher_forcing:policy_output",
        "PolicyOutput(padded(own.logprob_T),",
        "PolicyOutput(padded(own.logprob_T) * (torch.arange(mask_ST.shape[1]) < mask_ST.sum(-1, keepdim=True) - 1),",
        LONG_ANSWERS,
    ),
    Mutation(
        "tokens with the padding id left out",
        "collm.models.teacher_forcing:policy_output",
        "padded(own.logprob_T)",
        "padded(own.logprob_T * (ids_BT[row_P, column_P] != 0))",
        REINFORCE,
    ),
    Mutation(
        "padding counted as response",
        "collm.models.teacher_forcing:policy_output",
        "[(b, start, stop) for b, s in enumerate(batch) for start, stop in s.spans]",
        "[(b, start, stop if stop < len(s.ids) else ids_BT.shape[1]) for b, s in enumerate(batch) for start, stop in s.spans]",
        side_by_side,
    ),
    Mutation(
        "predicted by the state after it",
        "collm.models.teacher_forcing:policy_output",
        "Places.of(row_P.tolist(), state_P.tolist()",
        "Places.of(row_P.tolist(), column_P.tolist()",
        REINFORCE,
    ),
    Mutation(
        "scored at temperature 1",
        "collm.models.fused_head:_Blocks.__iter__",
        "z_PV /= self._temperature_P1",
        "pass",
        LONG_ANSWERS,
    ),
    Mutation(
        "later tokens detached",
        "collm.algorithms.losses:PolicyGradientLoss.__call__",
        "(output.logprob_BT - old_BT)",
        "(torch.cat([output.logprob_BT[:, :1], output.logprob_BT[:, 1:].detach()], -1) - old_BT)",
        LONG_ANSWERS,
    ),
    Mutation(
        "the advantage carries a gradient",
        "collm.algorithms.losses:PolicyGradientLoss.__call__",
        'output.mask_BT, data["advantage"]',
        'output.mask_BT, data["advantage"] * (1 + output.entropy_BT.sum(-1) - output.entropy_BT.sum(-1).detach())',
        REINFORCE,
    ),
    Mutation(
        "mean over the response's tokens",
        "collm.algorithms.losses:PolicyGradientLoss.__call__",
        "log_ratio_B = log_ratio_BT.sum(-1)",
        "log_ratio_B = log_ratio_BT.sum(-1) / mask_BT.sum(-1)",
        LONG_ANSWERS,
    ),
    # -- rho
    Mutation(
        "rho forgotten in the loss",
        "collm.algorithms.losses:PolicyGradientLoss.__call__",
        'torch.where(torch.isnan(data["old_logprob"]), output.logprob_BT.detach(), data["old_logprob"])',
        "output.logprob_BT.detach()",
        STALE,
    ),
    Mutation(
        "stale samples taken for fresh ones",
        "collm.training.learner:Learner._policy_samples",
        "fresh = tr.policy_version == self.policy_steps",
        "fresh = True",
        STALE,
    ),
    # -- sums and means
    Mutation("sum over a child's samples", "collm.algorithms.trees:joint_returns", "G_A[played].mean()", "G_A[played].sum()", RLOO),
    Mutation("sum over nodes", "collm.algorithms.trees:node_weights", "weights[transition.node] / siblings", "1.0", RLOO),
    Mutation("sum over the group", "collm.training.credit:monte_carlo_credits", "nodes[node] / len(responses)", "nodes[node]", RLOO),
    Mutation(
        "sum over the joint actions of a response",
        "collm.training.credit:monte_carlo_credits",
        "G_A[actions].mean()",
        "G_A[actions].sum()",
        trees("marloo", CROSSED),
    ),
    Mutation("sum over the minibatch", "collm.training.learner:Learner.update", "per_episode / len(minibatch)", "per_episode", REINFORCE),
    # -- groups and baselines
    Mutation(
        "crossed grouped as aligned",
        "collm.algorithms.trees:agent_groups",
        "by_pick.setdefault(episode.transitions[a].pick(agent), [])",
        "by_pick.setdefault(a, [])",
        trees("marloo", CROSSED),
    ),
    Mutation(
        "crossed nodes weighed as aligned ones",
        "collm.algorithms.trees:node_weights",
        "weights[transition.node] / siblings",
        "weights[transition.node] / siblings ** (1 / len(transition.turns))",
        trees("marloo", CROSSED_TURNS),
    ),
    Mutation(
        "MARLOO's baseline contains the sample",
        "collm.algorithms.marloo:MARLOO.advantages",
        "(G_K.sum() - G_K) / (len(G_K) - 1)",
        "G_K.mean()",
        RLOO,
    ),
    Mutation("MAGRPO without the sample", "collm.algorithms.magrpo:MAGRPO.advantages", "G_K.mean()", "(G_K.sum() - G_K)", GRPO),
    Mutation(
        "deviation over K",
        "collm.algorithms.magrpo:MAGRPO.advantages",
        "G_K.std(ddof=1)",
        "G_K.std()",
        partial(magrpo_std_row, label="grpo", problem="mono", samples=2),
    ),
    Mutation(
        "the greedy rollout is one of the samples",
        "collm.algorithms.trees:joint_returns",
        "if episode.transitions[c].greedy == episode.transitions[a].greedy",
        "",
        REMAX,
    ),
    # -- discounts
    Mutation(
        "turn weight one turn late",
        "collm.training.credit:_turn_weight",
        "algorithm.discount**stored.transition.turn",
        "algorithm.discount**(stored.transition.turn + 1)",
        trees("marloo", DISCOUNTED),
    ),
    Mutation(
        "turn weight forgotten",
        "collm.training.credit:_turn_weight",
        'algorithm.turn_weight == "discounted"',
        "False",
        trees("marloo", DISCOUNTED),
    ),
    Mutation("child's return undiscounted", "collm.algorithms.trees:joint_returns", "discount * G_A[played]", "G_A[played]", RLOO),
    Mutation(
        "TD target discounted twice",
        "collm.algorithms.turns:n_step_returns",
        "powers[-1] * next_H[last]",
        "powers[-1] * discount * next_H[last]",
        CONVERGED,
    ),
    Mutation(
        "rewards discounted one turn late",
        "collm.algorithms.turns:n_step_returns",
        "np.arange(last - t + 2)",
        "np.arange(1, last - t + 3)",
        CONVERGED,
    ),
    Mutation("GAE without gamma", "collm.algorithms.turns:generalised_advantages", "discount * lam * following", "lam * following", WRONG),
    # -- critics
    Mutation(
        "bootstraps from the present turn",
        "collm.training.values:_turn_values",
        "bootstrap.get((episode.id, t + 1)",
        "bootstrap.get((episode.id, t)",
        CONVERGED,
    ),
    Mutation(
        "bootstraps two turns ahead",
        "collm.training.values:_turn_values",
        "bootstrap.get((episode.id, t + 1)",
        "bootstrap.get((episode.id, t + 2)",
        CONVERGED,
    ),
    Mutation(
        "V of the turn before",
        "collm.training.values:_turn_values",
        "[online[episode.id, t] for t in turns]",
        "[online[episode.id, max(first, t - 1)] for t in turns]",
        WRONG,
    ),
    Mutation(
        "V read before the end of the input",
        "collm.models.critic_input:CriticReader._input",
        "ids += seen[t]",
        "ids += seen[t][:-1]",
        CONVERGED,
    ),
    Mutation(
        "target not held fixed",
        "collm.algorithms.losses:SquaredValueLoss.__call__",
        '(data["target"] - values_P).square()',
        '(data["target"] + 0.8 * (values_P.roll(-1) - values_P.roll(-1).detach()) * (torch.arange(len(values_P)) < len(values_P) - 1)'
        " - values_P).square()",
        CRITIC,
    ),
    Mutation(
        "critic loss without its square",
        "collm.algorithms.losses:SquaredValueLoss.__call__",
        '(data["target"] - values_P).square()',
        '(data["target"] - values_P).abs()',
        CRITIC,
    ),
    # -- the rollout
    Mutation("siblings share their chance", "collm.rollout.branch:fork", "isinstance(env, Reseedable)", "False", SAMPLING),
    Mutation("histories shared between siblings", "collm.models.chat:TokenHistory.fork", "list(self._turns)", "self._turns", RLOO),
    Mutation(
        "calls counted per node",
        "collm.rollout.asking:RolloutCost.count",
        "self.inference_calls += 1",
        "self.inference_calls += request.key[3] == 0",
        partial(calls_rows, method="magrpo"),
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_the_table_catches(mutation, monkeypatch):
    mutate(monkeypatch, mutation)
    rows = run_part(mutation.part, Bench(), "mutated")
    assert any(row.verdict is Verdict.FAIL for row in rows), [(row.check, row.error, row.verdict) for row in rows]


@pytest.mark.parametrize("part", list({id(m.part): m.part for m in MUTATIONS}.values()))
def test_the_same_rows_hold_without_mutation(part):
    assert [row for row in run_part(part, Bench(), "intact") if row.verdict is Verdict.FAIL] == []


def mutate(monkeypatch, mutation: Mutation) -> None:
    """Put the changed function in place of the production one, wherever collm has imported it."""
    module_name, _, path = mutation.where.partition(":")
    module = importlib.import_module(module_name)
    owner_name, _, name = path.rpartition(".")
    owner = module.__dict__[owner_name] if owner_name else module
    original = owner.__dict__[name]
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(mutation.old) == 1, f"{mutation.where} no longer holds {mutation.old!r} once"
    made: dict = {}
    exec(compile(source.replace(mutation.old, mutation.new), f"<{mutation.name}>", "exec"), dict(module.__dict__), made)
    monkeypatch.setattr(owner, name, made[name])
    for other in [m for n, m in sys.modules.items() if n.startswith("collm") and m is not module]:
        if not owner_name and other.__dict__.get(name) is original:
            monkeypatch.setattr(other, name, made[name])
