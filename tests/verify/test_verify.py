"""The whole table, and single facts on the smallest problems."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from collm.cli.main import app, app_main
from collm.rollout.branch import TreeShape
from collm.verify.choices import executions
from collm.verify.conditional import CriticTexts, lambda_advantages
from collm.verify.problems import PROBLEMS, Bench
from collm.verify.rows_actor_critic import converged_rows, wrong_critic_rows
from collm.verify.rows_monte_carlo import SINGLE, group_max_row, magrpo_std_row, unbiased_row
from collm.verify.rows_rollout import calls_rows
from collm.verify.rows_variance import variance_rows
from collm.verify.run import METHODS, verify
from collm.verify.table import TOLERANCE, Row, Verdict, exact_row, print_table, relative_error


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.mark.slow
def test_the_whole_table_passes():
    rows = verify([])
    assert [row for row in rows if row.verdict is Verdict.FAIL] == []
    assert {row.method for row in rows} == {"(laboratory)", *METHODS}
    assert all(row.error <= TOLERANCE for row in rows if row.verdict is Verdict.PASS and row.cosine is not None)


def test_an_oracle_takes_every_path_once_with_its_probability():
    def program(oracle):
        first = oracle.pick([0.25, 0.0, 0.75])
        return (first, oracle.pick([0.5, 0.5])) if first else (first,)

    assert list(executions(program)) == [(0.25, (0,)), (0.375, (2, 0)), (0.375, (2, 1))]


def test_coupled_choices_are_one():
    runs = list(executions(lambda oracle: (oracle.pick([0.5, 0.5], "same"), oracle.pick([0.5, 0.5], "same"))))
    assert runs == [(0.5, (0, 0)), (0.5, (1, 1))]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_a_dec_pomdp(name):
    problem = PROBLEMS[name]()
    assert sum(o.probability for o in problem.initial) == pytest.approx(1)
    for outcomes in problem.steps.values():
        assert sum(o.probability for o in outcomes) == pytest.approx(1)


def test_trees_of_one_problem_have_total_probability_one(bench):
    for shape in (TreeShape(2), TreeShape(2, greedy_baseline=True)):
        weighted = bench.episodes("solo", shape)
        assert len({w.episode.id for w in weighted}) == len(weighted) >= 144
        assert sum(w.probability for w in weighted) == pytest.approx(1, abs=1e-12)


def test_the_gradient_of_the_objective_equals_finite_differences(bench):
    exact = bench.exact("solo")
    gradient_D = exact.gradient(exact.coefficients("discounted"))[0]
    cast = bench.fresh_cast("solo")
    direction = np.random.default_rng(0).normal(size=len(gradient_D))
    J = {}
    for sign in (1, -1):
        _shift(cast.parameters(0), sign * 1e-5 * direction)
        moved = type(exact)(cast)
        J[sign] = moved.probability_R @ moved.return_RH[:, 0]
        _shift(cast.parameters(0), -sign * 1e-5 * direction)
    assert (J[1] - J[-1]) / 2e-5 == pytest.approx(gradient_D @ direction, rel=1e-6)


def _shift(parameters, by):
    start = 0
    for p in parameters:
        p.data += p.new_tensor(by[start : start + p.numel()]).reshape(p.shape)
        start += p.numel()


@pytest.mark.parametrize("algorithm", ["ma-reinforce", "marloo", "magrpo", "maremax"])
@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.turn_weight)
def test_monte_carlo_methods_are_unbiased_on_trees(bench, algorithm, case):
    row = unbiased_row(bench, algorithm, case, algorithm)
    assert row.verdict is Verdict.PASS
    assert row.error < 1e-12


def test_biases_are_those_of_the_statements(bench):
    for row in (*magrpo_std_row(bench, "grpo", "mono", 2), *group_max_row(bench, "remax", "mono", 2)):
        assert row.verdict is Verdict.BIASED
        assert row.error > 0.01


def test_converged_critics_are_unbiased_and_wrong_ones_are_not_until_lambda_is_one(bench):
    assert {row.verdict for row in converged_rows(bench, "collm-cc", "alone", "ac")} == {Verdict.PASS}
    rows = list(wrong_critic_rows(bench, "collm-cc", "alone", "ac"))
    errors = [row.error for row in rows[:4]]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1 > 1e-12 > errors[3]


def test_lambda_advantages_at_the_ends(bench):
    exact = bench.exact("alone")
    texts = CriticTexts(exact, [0], "full", "v")
    value_RH = texts.values(texts.converged())
    gamma = exact.problem.discount
    td_RH = exact.reward_RH + gamma * value_RH[:, 1:] - value_RH[:, :-1]
    np.testing.assert_allclose(lambda_advantages(exact, value_RH, 0.0), td_RH, atol=1e-12)
    np.testing.assert_allclose(lambda_advantages(exact, value_RH, 1.0), exact.return_RH - value_RH[:, :-1], atol=1e-12)


@pytest.mark.slow
def test_variance_falls_as_the_proposition_says_where_its_assumptions_hold(bench):
    rows = list(variance_rows(bench))
    assert {row.verdict for row in rows} == {Verdict.PASS}
    departures = [row.check for row in rows if "x Prop. 4.2" in row.check]
    assert len(departures) == 4
    assert "1.82 x" in next(row.check for row in rows if row.problem == "solo")


def test_inference_calls_are_those_of_the_proposition(bench):
    assert [row.calls for row in calls_rows(bench, "magrpo")] == ["28 / 28", "8 / 8", "36 / 36", "9 / 9", "54 / 54"]
    assert [row.calls for row in calls_rows(bench, "collm-cc", chain=True)] == ["6 / 6"]


def test_an_error_of_a_part_in_a_million_fails():
    exact = [np.array([1.0, 0.0])]
    assert relative_error([np.array([1.0, 2e-6])], exact) == pytest.approx(2e-6)
    assert exact_row("m", "c", "p", [np.array([1.0, 2e-6])], exact).verdict is Verdict.FAIL


def test_the_table_numbers_its_notes():
    row = Row("m", "what", "solo", Verdict.BIASED, 0.5, 0.9, note="why")
    console = Console(record=True, width=120, file=io.StringIO())
    print_table([row, row], console)
    text = console.export_text()
    assert text.count("what [1]") == 2
    assert "[1] why" in text
    assert "2 BIASED (as stated)" in text


def test_an_unknown_method_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        app_main(["verify", "magrop"])
    assert stop.value.code == 2
    assert "magrpo" in capsys.readouterr().err


def test_the_command_prints_the_table_and_exits_with_1_if_a_row_fails(monkeypatch):
    from collm.verify import run

    monkeypatch.setattr(run, "verify", lambda methods, announce: [Row(methods[0], "c", "p", Verdict.PASS)])
    assert CliRunner().invoke(app, ["verify", "rloo"]).exit_code == 0
    monkeypatch.setattr(run, "verify", lambda methods, announce: [Row(methods[0], "c", "p", Verdict.FAIL)])
    failed = CliRunner().invoke(app, ["verify", "rloo"])
    assert failed.exit_code == 1
    assert "rloo" in failed.output
