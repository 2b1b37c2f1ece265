"""Optimizers other than plain AdamW: what they keep, that they learn, and that their runs resume to the same numbers."""

from __future__ import annotations

import sys

import pytest
import torch
from run_tools import agent, differences, model_folder, toy_config

from collm.config.schema import OptimizerConfig
from collm.errors import ConfigError
from collm.models.optim import make_optimizer
from collm.training.display import Display
from collm.training.trainer import Trainer

EIGHT_BIT = OptimizerConfig(kind="adamw_8bit", learning_rate=1e-2)


class Died(BaseException):
    """Stands for a kill: nothing in the code under test handles it."""


class DiesAt(Display):
    """Ends the run between an update's row and its checkpoint."""

    def __init__(self, update: int) -> None:
        self._update = update

    def update(self, row) -> None:
        if row["update"] == self._update:
            raise Died


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigError, match=r"collm\[8bit\].*optimizer\.kind=adamw$"):
        make_optimizer([torch.nn.Parameter(torch.ones(4, 4))], EIGHT_BIT)


def test_eight_bit_moments_take_a_quarter_and_step_like_adamw():
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    start = [torch.randn(64, 128), torch.randn(32)]
    ours, plain = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    eight_bit = make_optimizer(ours, EIGHT_BIT)
    adamw = make_optimizer(plain, EIGHT_BIT.model_copy(update={"kind": "adamw"}))
    for _ in range(5):
        for p, q in zip(ours, plain, strict=True):
            q.grad = torch.randn_like(q)
            p.grad = q.grad.clone()
        eight_bit.step()
        adamw.step()
    moved = (plain[0] - start[0]).detach()
    assert (ours[0] - plain[0]).detach().norm() < 0.1 * moved.norm()
    # Tensors below 4,096 elements keep fp32 moments.
    torch.testing.assert_close(ours[1], plain[1])
    state = eight_bit.state[ours[0]]
    held = sum(t.nbytes for name, t in state.items() if isinstance(t, torch.Tensor) and not name.startswith("qmap"))
    assert held < 0.26 * sum(adamw.state[plain[0]][name].nbytes for name in ("exp_avg", "exp_avg_sq"))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_an_eight_bit_run_that_died_resumes_to_the_same_numbers(tuning, tmp_path):
    pytest.importorskip("bitsandbytes")
    qwen = model_folder(tmp_path / "qwen3")
    section = {"tuning": tuning, "lora": {"rank": 128}, "optimizer": EIGHT_BIT.model_dump() | {"learning_rate": 1e-3}}
    config = toy_config([agent(qwen, **section), agent(qwen, **section)], section, training={"updates": 3})
    assert Trainer(config, tmp_path / "whole").run()
    trainer = Trainer(config, tmp_path / "died", display=DiesAt(2))
    optimizers = [m.optimizer for host in trainer.team.hosts.values() for m in host.members.values()]
    with pytest.raises(Died):
        trainer.run()
    dtypes = {t.dtype for o in optimizers for state in o.state.values() for t in state.values() if isinstance(t, torch.Tensor)}
    assert torch.uint8 in dtypes
    assert Trainer.resume(tmp_path / "died").run()
    assert differences(tmp_path / "whole", tmp_path / "died") == []
