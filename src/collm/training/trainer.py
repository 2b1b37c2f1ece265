"""The training loop: roll out, update, log, evaluate, checkpoint."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from collm.algorithms.registry import has_critics, make_method
from collm.config.load import load_config_file
from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.envs.check import check_observations, global_info
from collm.envs.data import load_rows, not_held_out
from collm.envs.registry import make_env
from collm.errors import CollmError, ConfigError, RunFolderError
from collm.evaluation.evaluator import evaluate
from collm.models.loading import LoadedModel
from collm.models.optim import Progress
from collm.models.seeds import derive_seed
from collm.models.team import Team, build_team
from collm.models.workers import host_workers
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.rollout.describe import describe
from collm.rollout.stepping import Stepper
from collm.training.buffer import Stored
from collm.training.display import Display
from collm.training.export import save_final
from collm.training.learner import Learner
from collm.training.metrics import Counters, update_metrics
from collm.training.online import OnlineLearning
from collm.training.run_folder import RunFolder, check_live_marks
from collm.training.stop import StopRequested, StopSwitch
from collm.training.trackers import Trackers
from collm.types import Episode, TaskRow

Rows = tuple[list[TaskRow | None], list[TaskRow | None]]
"""Task rows to train on and to evaluate on."""


class Trainer:
    """Trains a team on a task. Build it from a configuration, or from live objects as well.

    `models` puts models that are already in memory in place of the configured ones, by member name ("agent_0",
    "agent_1", "critic", or "critic_agent_0" ... with CoLLM-DC); `env` is a factory of environments in place of the
    configured task; `rows` are (train, test) task rows for it.

        trainer = Trainer(config, Path("runs/mine"))
        trainer.run()
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        *,
        models: Mapping[str, LoadedModel] | None = None,
        env: Callable[[], TextEnv] | None = None,
        rows: Rows | None = None,
        resume: bool = False,
        display: Display | None = None,
    ) -> None:
        self.config = config
        self._method = make_method(config)
        self._make_env: Callable[[], TextEnv] = env or (lambda: make_env(config.task, len(config.agents), config.history))
        self.train_rows, self.test_rows = rows or ((([None], [None])) if env is not None else load_rows(config.task))
        if env is None and rows is None and (note := not_held_out(config.task)) is not None:
            warnings.warn(note, stacklevel=2)
        self._display = display or Display()
        self._stop = StopSwitch()
        self.counters = Counters()
        self._evaluated = -1
        self._saved: tuple[int, int] | None = None
        with ExitStack() as on_error:
            if resume:
                # First the lock, then the models: a second process is refused before it fills the memory.
                self.folder = RunFolder.open(run_dir)
                on_error.callback(self.folder.close)
                check_live_marks(run_dir, {"models": models, "env": env, "rows": rows})
            self.team = self._build_team(models or {})
            if not resume:
                # First the models, then the folder: a mistake in their names leaves no folder behind.
                self.folder = RunFolder.create(run_dir, config)
                on_error.callback(self.folder.close)
                self.folder.mark_live([n for n, given in (("models", models), ("env", env), ("rows", rows)) if given is not None])
            self._executor = host_workers(len(self.team.hosts))
            self._stepper = Stepper(config.training.env_workers)
            self.learner = Learner(config, self.team, self._method, self._executor)
            every = config.algorithm.update_every
            self._online = None if every == "episode" else OnlineLearning(self.learner, every if isinstance(every, int) else None)
            if resume:
                self._load()
            on_error.pop_all()

    @classmethod
    def resume(cls, run_dir: Path, **live: Any) -> Trainer:
        """Continue the run in `run_dir` from its newest checkpoint; `live` as for the constructor.

        Raises RunFolderError if it is no run folder or another process is writing it.
        """
        path = run_dir / "config.yaml"
        if not path.is_file():
            raise RunFolderError(f"{run_dir} is not a run folder: it has no config.yaml (collm train makes run folders)")
        return cls(load_config_file(path), run_dir, resume=True, **live)

    def run(self) -> bool:
        """Train to the last update; returns False if SIGINT or SIGTERM stopped it (a checkpoint is written then).

        Raises NonFiniteLossError, EnvContractError, ContextOverflowError and RunFolderError, each naming the place, and
        whatever the environment raises. A checkpoint of the last finished update is written first, unless the update
        that failed had already taken an optimizer step: then the newest regular checkpoint is the one to resume from.
        """
        config = self.config
        ended = False
        done = {"update": self.counters.updates, "env_steps": self.counters.env_steps}
        trackers = Trackers(self.folder.path, config, self.counters.updates)
        try:
            with self._stop.listening(), self._display.running(config, self.folder.path, done, self._first_return()):
                self._evaluate_and_save(trackers)
                while not self._over():
                    self._one_update(trackers)
                    self._evaluate_and_save(trackers)
                save_final(self.team, self.folder.path / "final")
            ended = True
        except StopRequested as stop:
            if not self._has_stepped():
                self._save()
            self._display.stopped(stop.signal_name, self.folder.path, self._saved[0] if self._saved is not None else 0)
            ended = True
            return False
        finally:
            if not (ended or self._has_stepped() or isinstance(sys.exception(), RunFolderError)) and self._weights_are_finite():
                self._save()
            trackers.close()
            self._executor.shutdown(cancel_futures=True)
            self._stepper.close()
            self.folder.close()
        return True

    def _over(self) -> bool:
        """Whether the run has all its updates, or has spent its budget of env steps."""
        training = self.config.training
        return self.counters.updates >= training.updates or (
            training.env_steps is not None and self.counters.env_steps >= training.env_steps
        )

    def _has_stepped(self) -> bool:
        """Whether weights have moved since the last finished update, so that they belong to no checkpoint."""
        return self.learner.steps != self.counters.optimizer_steps

    def _first_return(self) -> float | None:
        """The return of the run's first update, where an earlier sitting made it."""
        log = self.folder.path / "metrics.jsonl"
        if self.counters.updates == 0:
            return None
        with log.open(encoding="utf-8") as rows:
            return json.loads(next(rows))["return_mean"]

    # -- one update ------------------------------------------------------------------------------------------------

    def _one_update(self, trackers: Trackers) -> None:
        update = self.counters.updates
        begun = time.perf_counter()
        with _placed(f"update {update + 1}"):
            episodes, cost, learned, seconds = self._roll_out_and_learn(update)
        self.counters.advance(episodes, cost, self.learner)
        seconds |= {"generate": cost.generate_seconds, "reward": cost.reward_seconds, "total": time.perf_counter() - begun}
        row = update_metrics(self.config, episodes, cost, self.counters, learned, seconds)
        shown = self.config.logging.episodes_per_update
        self.folder.append("episodes.jsonl", (describe(e) for e in episodes[:shown]))
        self.folder.append("metrics.jsonl", [row])
        trackers.log(row, self.counters.updates)
        self._display.update(row)

    def _roll_out_and_learn(self, update: int) -> tuple[list[Episode], RolloutCost, dict[str, float], dict[str, float]]:
        """Play the update's episodes and learn from them: afterwards, or while they are being played."""
        training, algorithm, tree = self.config.training, self.config.algorithm, self.config.monte_carlo
        shape = TreeShape() if has_critics(self._method) else TreeShape(tree.samples, tree.joint_mode, self._method.plays_greedy)
        settings = RolloutSettings(
            self.config.history,
            self.config.context_window,
            greedy=False,
            update=update,
            in_flight=training.episodes_in_flight,
            tree=shape,
            keep_cut=algorithm.bootstrap_truncated,
            stamp=lambda: (self.learner.updates, self.learner.policy_steps),
        )
        spent = self.counters.env_steps / training.env_steps if training.env_steps is not None else 0.0
        at = Progress(update, training.updates, spent)
        parts = (self._plans(update), self._make_env, self.team.policies, settings, self._executor, self._stop.check)
        play = partial(collect, *parts, stepper=self._stepper)
        if self._online is not None:
            online = self._online
            online.begin()
            begun = time.perf_counter()
            episodes, cost = play(lambda batch: online.after_turn(batch, at, self._stop.check))
            online.end()
            update_seconds = time.perf_counter() - begun - cost.generate_seconds - cost.reward_seconds - online.score_seconds
            return episodes, cost, _mean_metrics(online.learned), {"score": online.score_seconds, "update": update_seconds}
        episodes, cost = play()
        self._stop.check()
        score_seconds = self.learner.store([Stored(e, a) for e in episodes for a in range(len(e.transitions))])
        begun = time.perf_counter()
        learned = self.learner.update(at)
        return episodes, cost, learned, {"score": score_seconds, "update": time.perf_counter() - begun}

    def _evaluate_and_save(self, trackers: Trackers) -> None:
        """What is due after the present update and, in a resumed run, not done yet."""
        done, every, over = self.counters.updates, self.config.evaluation.every, self._over()
        if self._evaluated < done and (done == 0 or over or (every and done % every == 0)):
            self._evaluate(trackers)
        if over or done % self.config.training.checkpoint_every == 0:
            self._save()

    def _plans(self, update: int) -> list[EpisodePlan]:
        """The update's episodes: rows in a new random order each time the training set has been gone through."""
        count, n_rows = self.config.training.episodes_per_update, len(self.train_rows)
        plans: list[EpisodePlan] = []
        for k in range(update * count, (update + 1) * count):
            sweep, place = divmod(k, n_rows)
            order = np.random.default_rng(derive_seed(self.config.seed, "order", sweep)).permutation(n_rows)
            plans.append(EpisodePlan(f"{k:07d}", self.train_rows[order[place]], derive_seed(self.config.seed, "episode", k)))
        return plans

    def _evaluate(self, trackers: Trackers) -> None:
        begun = time.perf_counter()
        with _placed(f"evaluation after update {self.counters.updates}"):
            sampled, greedy, _ = evaluate(
                self.config,
                self.test_rows,
                self._make_env,
                self.team.policies,
                self._executor,
                self._stop.check,
                self.config.evaluation.sampled_episodes,
                self.config.seed,
                self._stepper,
            )
        row = {
            "update": self.counters.updates,
            "env_steps": self.counters.env_steps,
            **sampled.as_dict(),
            "greedy": greedy.as_dict(),
            "seconds_evaluate": time.perf_counter() - begun,
        }
        self.folder.append("eval.jsonl", [row])
        self._evaluated = self.counters.updates
        trackers.log({"eval/return_mean": sampled.return_mean, "eval/greedy_return_mean": greedy.return_mean}, self.counters.updates)
        self._display.evaluation(row)

    # -- state -----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._saved == (self.counters.updates, self._evaluated):
            return
        state = {
            "counters": self.counters.state(),
            "evaluated": self._evaluated,
            "learner": self.learner.state(self.counters.updates),
            "waiting": self._online.waiting_before if self._online is not None else 0,
            "hosts": {name: host.state() for name, host in self.team.hosts.items()},
        }
        self.folder.save_checkpoint(self.counters.updates, state, self.config.training.keep_checkpoints)
        self._saved = (self.counters.updates, self._evaluated)

    def _load(self) -> None:
        """Take up the newest checkpoint, or begin again where the run was killed before its first."""
        state = self.folder.load_checkpoint()
        if state is None:
            self.folder.cut_logs(dict.fromkeys(self.folder.log_sizes(), 0))
            return
        self.counters.load_state(state["counters"])
        if not (self._over() and state["evaluated"] == self.counters.updates):
            # A finished run's logs end where they should; `collm eval` may have appended to them since.
            self.folder.cut_logs(state["log_sizes"])
        self.learner.load_state(state["learner"])
        if self._online is not None:
            self._online.resume(state["waiting"])
        for name, host in self.team.hosts.items():
            host.load_state(state["hosts"][name])
        self._evaluated = state["evaluated"]
        self._saved = (self.counters.updates, self._evaluated)

    def _weights_are_finite(self) -> bool:
        members = [m for host in self.team.hosts.values() for m in host.state().values()]
        return all(bool(torch.isfinite(w).all()) for m in members for w in m["weights"].values())

    def _build_team(self, live: Mapping[str, LoadedModel]) -> Team:
        probe = self._make_env()
        names = list(probe.possible_agents)
        if len(names) != len(self.config.agents):
            raise ConfigError(
                f"the environment has {len(names)} agents ({', '.join(names)}), "
                f"the configuration {len(self.config.agents)}; give one agents.N section per agent"
            )
        observations, _ = probe.reset(seed=0, options={"task": self.train_rows[0]})
        check_observations(observations, names)
        n_features = len(global_info(probe.state()).features)
        critics = self._method.critics(names) if has_critics(self._method) else {}
        return build_team(self.config, names, critics, n_features, live)


@contextmanager
def _placed(where: str) -> Iterator[None]:
    try:
        yield
    except CollmError as error:
        error.add_place(where)
        raise


def _mean_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Several updates of one rollout in one row: means, and maxima where the name says so."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {n: (max if "max_" in n else np.mean)([row[n] for row in rows if n in row]).__float__() for n in names}
