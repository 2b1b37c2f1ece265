"""What a run does when something goes wrong: an error that names the place, nothing half done, and a checkpoint to go on from."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from run_tools import agent, differences, last_state, log_rows, model_folder, toy_config
from toy_envs import LettersEnv

import collm
from collm.config.schema import Config
from collm.errors import CollmError, ConfigError, ContextOverflowError, EnvContractError, NonFiniteLossError, RunFolderError
from collm.training.display import Display
from collm.training.trainer import Trainer


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return model_folder(folder / "qwen3"), model_folder(folder / "llama", "llama", 1)


def make_config(models: tuple[str, str], **sections) -> Config:
    slow = {"learning_rate": 1e-3}
    training = {"updates": 4, "episodes_per_update": 2, "checkpoint_every": 50, **sections.pop("training", {})}
    critic = sections.pop("critic", {})
    return toy_config([agent(m, optimizer=slow) for m in models], critic, training=training, evaluation={"every": 0}, **sections)


class After(Display):
    """Calls something once, right after an update."""

    def __init__(self, update: int, action) -> None:
        self._update = update
        self._action = action

    def update(self, row) -> None:
        if row["update"] == self._update:
            self._action()


class Switchable(LettersEnv):
    """As it should be until `broken` is set on the class."""

    broken: float | None = None

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        if self.broken is not None:
            rewards = dict.fromkeys(rewards, self.broken)
        return observations, rewards, terminations, truncations, infos


REPLAY = {"replay": {"max_policy_lag": 2}}


@pytest.mark.parametrize(
    ("reward", "sections", "message"),
    [
        (1e200, {}, r"update 3: critic: the loss is not finite; from episode 000000[45] "),
        (1e200, {**REPLAY, "method": "collm-dc"}, r"update 3: critic_agent_0: the loss is not finite; from episode 000000[45] "),
        (1e19, REPLAY, r"update 3: critic: the gradient is not finite although the loss is; from episode 000000[0-5] "),
    ],
)
def test_a_non_finite_loss_stops_at_the_last_good_state(reward, sections, message, models, tmp_path, monkeypatch):
    config = make_config(models, **sections)
    monkeypatch.setattr(Switchable, "broken", None)
    Trainer(config, tmp_path / "whole", env=Switchable).run()
    weights: dict[str, dict] = {}

    def breaks() -> None:
        monkeypatch.setattr(Switchable, "broken", reward)
        weights.update({name: _weights(host) for name, host in trainer.team.hosts.items()})

    trainer = Trainer(config, tmp_path / "run", env=Switchable, display=After(2, breaks))
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.run()
    assert weights == {name: _weights(host) for name, host in trainer.team.hosts.items()}
    assert all(p.grad is None for host in trainer.team.hosts.values() for p in host.loaded.model.parameters())
    assert last_state(tmp_path / "run")["folder"] == "update_000002"
    assert len(log_rows(tmp_path / "run", "metrics.jsonl")) == 2
    # Once the cause is mended the run goes on as if nothing had been.
    monkeypatch.setattr(Switchable, "broken", None)
    assert Trainer.resume(tmp_path / "run", env=Switchable).run()
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def _weights(host) -> dict[str, list]:
    return {name: parameter.tolist() for name, parameter in host.loaded.model.named_parameters()}


@pytest.mark.parametrize("member", ["agent_1", "critic"])
def test_poisoned_weights_are_told_and_never_kept(member, models, tmp_path):
    config = make_config(models, training={"checkpoint_every": 2})

    def poison() -> None:
        host = trainer.team.policies[member].host if member == "agent_1" else trainer.team.critics[member].host
        with torch.no_grad():
            next(iter(host.loaded.model.parameters()))[:] = torch.nan

    trainer = Trainer(config, tmp_path / "run", display=After(3, poison))
    with pytest.raises(NonFiniteLossError, match=rf"^update 4: {member}: .* not finite.*000000[67]"):
        trainer.run()
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        hosts = torch.load(path / "state.pt", weights_only=False)["hosts"]
        tensors = [w for members in hosts.values() for m in members.values() for w in m["weights"].values()]
        assert all(torch.isfinite(w).all() for w in tensors), path


class Failing(LettersEnv):
    """Breaks the contract, in one way, at the second step of an episode."""

    how: str = ""
    steps: int = 0

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        if self._turn == 1:
            return observations, rewards, terminations, truncations, infos
        type(self).steps += 1
        match self.how:
            case "raises":
                raise TypeError("step() got something unexpected")
            case "unequal":
                rewards = {"agent_0": 1.0, "agent_1": 0.5}
            case "nan":
                rewards = dict.fromkeys(rewards, float("nan"))
            case "flags":
                truncations = {"agent_0": True, "agent_1": False}
            case "metrics":
                infos = {a: {"metrics": {"share": float("inf")}} for a in infos}
        return observations, rewards, terminations, truncations, infos

    def state(self):
        if self.how == "features" and self._turn == 1:
            return {"text": "", "features": np.array([np.nan, 0.0])}
        return super().state()

    def _observations(self):
        if self.how == "observation" and self._turn == 1:
            return {"agent_0": "only mine"}
        return super()._observations()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "unequal",
            "^evaluation after update 0: episode eval-sampled-0-0, turn 1: rewards must be one shared number.*agent_0=1, agent_1=0.5",
        ),
        ("nan", r"episode eval-sampled-0-0, turn 1: rewards: that of agent_0 is nan"),
        ("flags", "episode eval-sampled-0-0, turn 1: truncations must be true for all agents or for none"),
        ("metrics", "episode eval-sampled-0-0, turn 1: infos: metric 'share' of agent_0 is inf"),
        ("features", "episode eval-sampled-0-0, turn 0: state: features are"),
        ("observation", "episode eval-sampled-0-0, turn 0: observations: none for agent_1"),
    ],
)
def test_a_broken_contract_names_the_place(how, message, models, tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "how", how)
    with pytest.raises(EnvContractError, match=message):
        Trainer(make_config(models), tmp_path / "run", env=Failing).run()


def test_an_error_of_the_environment_comes_through_with_its_place(models, tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "how", "")
    trainer = Trainer(
        make_config(models), tmp_path / "run", env=Failing, display=After(1, lambda: monkeypatch.setattr(Failing, "how", "raises"))
    )
    monkeypatch.setattr(Failing, "steps", 0)
    with pytest.raises(TypeError) as caught:
        trainer.run()
    assert str(caught.value) == "step() got something unexpected"
    assert caught.value.__notes__ == ["raised by the environment's step() in episode 0000002, turn 1"]
    # 4 evaluation episodes, 2 of the first update, and then one call: not tried again with other arguments.
    assert Failing.steps == 7
    # The folder is free again, and what was finished is kept.
    assert len(log_rows(tmp_path / "run", "metrics.jsonl")) == 1
    monkeypatch.setattr(Failing, "how", "")
    assert Trainer.resume(tmp_path / "run", env=Failing).run()


def test_an_error_in_reset_names_the_episode(models, tmp_path):
    class FailsLater(LettersEnv):
        resets = 0

        def reset(self, seed=None, options=None):
            type(self).resets += 1
            if type(self).resets == 3:
                raise KeyError("word")
            return super().reset(seed, options)

    with pytest.raises(KeyError) as caught:
        Trainer(make_config(models), tmp_path / "run", env=FailsLater).run()
    assert caught.value.__notes__ == ["raised by the environment's reset() in episode eval-sampled-0-1"]


class Talkative(LettersEnv):
    """Its prompts grow long on the second turn."""

    def _observations(self):
        return {a: "word " * (2 + 40 * self._turn) for a in self.possible_agents}


@pytest.mark.parametrize("history", ["full", "last"])
def test_a_prompt_that_does_not_fit_names_agent_and_episode(history, models, tmp_path):
    config = make_config(models, context_window=100, history=history)
    with pytest.raises(
        ContextOverflowError,
        match=r"after update 0: agent_0, episode eval-sampled-0-0: a prompt of \d+ tokens does not fit into 94 .*raise context_window",
    ):
        Trainer(config, tmp_path / "run", env=Talkative).run()


def test_a_joint_history_that_does_not_fit_names_critic_and_episode(models, tmp_path):
    config = make_config(models, critic={"context_window": 100})
    with pytest.raises(
        ContextOverflowError, match=r"critic: turn 1 of episode 000000\d takes \d+ tokens, more than critic.context_window=100"
    ):
        Trainer(config, tmp_path / "run", env=Talkative).run()
    assert last_state(tmp_path / "run")["folder"] == "update_000000"


def test_a_full_disk_while_logging(models, tmp_path):
    """/dev/full answers every write with "no space left on device"."""
    config = make_config(models, training={"checkpoint_every": 2})
    Trainer(config, tmp_path / "whole").run()
    run = tmp_path / "run"

    def fill() -> None:
        (run / "metrics.jsonl").rename(run / "aside")
        (run / "metrics.jsonl").symlink_to("/dev/full")

    with pytest.raises(
        RunFolderError, match=r"could not write .*metrics.jsonl: .*No space left on device.*free some space.*collm train --resume"
    ):
        Trainer(config, run, display=After(3, fill)).run()
    (run / "metrics.jsonl").unlink()
    (run / "aside").rename(run / "metrics.jsonl")
    assert last_state(run)["folder"] == "update_000002"
    assert Trainer.resume(run).run()
    assert differences(tmp_path / "whole", run) == []


@pytest.mark.parametrize(("update", "what"), [(2, "update_000002"), (4, "final models")])
def test_a_full_disk_while_saving(update, what, models, tmp_path):
    """A limit on file sizes stands for the full disk: both let a write begin and fail on the way."""
    config = make_config(models, training={"checkpoint_every": 1})
    Trainer(config, tmp_path / "whole").run()
    run, unlimited = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))

    class FillsBeforeTheEnd(Display):
        def evaluation(self, row) -> None:
            # The last checkpoint is written after this: only the final models are to fail.
            if row["update"] == 4:
                save = trainer.folder.save_checkpoint
                trainer.folder.save_checkpoint = lambda *args: (save(*args), fill())  # type: ignore[method-assign]

    trainer = Trainer(config, run, display=After(2, fill) if update == 2 else FillsBeforeTheEnd())
    try:
        with pytest.raises(RunFolderError, match=rf"could not write .*{what}.*free some space.*collm train --resume"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = [p.name for p in (run / "checkpoints").iterdir()]
    assert sorted(left) == (["update_000000", "update_000001"] if update == 2 else ["update_000003", "update_000004"])
    assert Trainer.resume(run).run()
    assert differences(tmp_path / "whole", run) == []


def test_another_number_of_agents_leaves_no_folder(models, tmp_path):
    config = make_config(models)
    with pytest.raises(ConfigError, match=r"the environment has 3 agents \(agent_0, agent_1, agent_2\), the configuration 2"):
        Trainer(config, tmp_path / "run", env=lambda: LettersEnv(n=3))
    task = config.task.model_copy(update={"env_args": {"n": 1}})
    with pytest.raises(EnvContractError, match="1 agents .* lists 2 under agents"):
        collm.train(config.model_copy(update={"task": task}), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_loaded_leaves_no_folder(models, tmp_path):
    config = make_config((models[0], str(tmp_path / "nowhere")))
    with pytest.raises(CollmError, match="nowhere does not exist"):
        collm.train(config, run_dir=Path(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
