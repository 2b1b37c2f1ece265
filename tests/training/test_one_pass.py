"""A critic's values and its gradient from one pass are those of two."""

from __future__ import annotations

import pytest
import torch
from credit_tools import START, all_of, configured, gradients, learning, rolled_out, team_of

from collm.errors import NonFiniteLossError
from collm.models.host import Host
from collm.training.learner import Learner

CASES = {
    "td": {},
    "lambda returns": {"algorithm": {"gae_lambda": 0.9}},
    "two steps": {"algorithm": {"n_step": 2, "advantage_normalization": "batch"}},
    "one history per turn": {"history": "last"},
    "action values": {"critic": {"kind": "q"}},
    "value clipping": {"critic": {"value_clip": 0.1}},
    "cut episodes": {"algorithm": {"bootstrap_truncated": True}},
    "a draw": {"replay": {"draw": 4}},
    "small batches": {"training": {"micro_batch_tokens": 1}},
}


@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
@pytest.mark.parametrize("case", CASES)
def test_one_pass_gives_what_two_give(method, case, monkeypatch):
    config = configured(method, **CASES[case])
    team = team_of(config)
    episodes = rolled_out(config, team, turns=3, keep_cut=config.algorithm.bootstrap_truncated)
    asked: list[str] = []
    values = Host.values
    monkeypatch.setattr(Host, "values", lambda self, member, *rest, **more: asked.append(member) or values(self, member, *rest, **more))
    (one,), one_metrics = gradients(config, team, episodes, monkeypatch)
    # With `history: last` an episode is more than one input, and its values come first.
    assert bool(asked) == (case == "one history per turn")
    made = Learner.__init__

    def in_two(self, *args):
        made(self, *args)
        self._one_pass = False

    monkeypatch.setattr(Learner, "__init__", in_two)
    (two,), two_metrics = gradients(config, team, episodes, monkeypatch)
    assert one.keys() == two.keys()
    for member, grads in two.items():
        assert any(g.abs().max() > 1e-6 for g in grads.values())
        for name, expected in grads.items():
            torch.testing.assert_close(one[member][name], expected, rtol=1e-9, atol=1e-12)
    assert one_metrics == pytest.approx(two_metrics, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "sections",
    [
        {"algorithm": {"epochs": 2}},
        {"algorithm": {"minibatch": 2}},
        {"critic": {"target_rate": 0.1}},
        {"critic": {"shared_backbone": True}, "method": "collm-dc"},
    ],
)
def test_weights_that_move_in_between_or_are_others_take_two(sections, monkeypatch):
    config = configured(**{"method": "collm-cc", **sections})
    team = team_of(config)
    episodes = rolled_out(config, team)
    asked: list[str] = []
    values = Host.values
    monkeypatch.setattr(Host, "values", lambda self, member, *rest, **more: asked.append(member) or values(self, member, *rest, **more))
    gradients(config, team, episodes, monkeypatch)
    assert asked


def test_a_value_that_is_not_finite_leaves_no_gradient():
    config = configured()
    team = team_of(config)
    episodes = rolled_out(config, team)
    episodes[1].transitions[1].reward = float("nan")
    with learning(config, team) as learner:
        learner.store(all_of(episodes))
        with pytest.raises(NonFiniteLossError, match=f"critic.*{episodes[1].id}"):
            learner.update(START)
    assert all(p.grad is None for host in team.hosts.values() for m in host.members.values() for p in m.parameters)
