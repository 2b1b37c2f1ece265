"""What costs grow with: `python benchmarks/scaling.py [--repeats N] [--out FOLDER]`.

Against the number of agents, K and H: inference calls, joint actions (beside Prop. 4.3) and seconds of rollout and update.
Against context length, episodes in flight and adapters on one base: seconds or tokens per second. Against H with
`history: full`: the tokens that models really read, counted at the models' passes, beside what re-reading every history would cost.
Random models of some 100,000 parameters, responses of fixed length. Writes scaling.json and plots into the folder; the last
line of output is the same object.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from bench_tools import SMALL, FixedEnv, machine, random_model, timed, write_result
from scaling_plots import draw_all
from torch import Tensor

from collm.algorithms.registry import make_method
from collm.config.schema import AgentConfig, AlgorithmConfig, Config, LoraConfig, MonteCarloConfig, TrainingConfig
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.team import Team, agent_names, build_team
from collm.models.workers import host_workers
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.training.buffer import Stored
from collm.training.learner import Learner
from collm.types import Episode

HERE = Path(__file__).parent
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """A rollout whose cost is known beforehand: trees of depth `turns` with K samples, every response `response` tokens long."""

    agents: int = 2
    samples: int = 1
    turns: int = 1
    episodes: int = 4
    in_flight: int = 64
    prompt: int = 40
    feedback: int = 16
    """Tokens of an observation after the first."""
    response: int = 16
    adapters: bool = False
    """All agents as adapters on one base."""
    joint_mode: Literal["aligned", "crossed"] = "aligned"
    carries_caches: bool = True


def inference_calls(n: int, k: int, horizon: int) -> int:
    """Prop. 4.3: n K (K^H - 1) / (K - 1) per full tree; n H for a chain."""
    return n * horizon if k == 1 else n * k * (k**horizon - 1) // (k - 1)


def joint_actions(n: int, k: int, horizon: int, joint_mode: str = "aligned") -> int:
    """Env steps of a full tree: every node plays K joint actions (aligned) or K^n (crossed)."""
    branches = k if joint_mode == "aligned" else k**n
    return sum(branches**depth for depth in range(1, horizon + 1))


def carried_tokens(episodes: Sequence[Episode]) -> int:
    """What chains with caches carried over turns read: each agent's last history and response once, but for its last token."""
    return sum(len(t.context_ids) + len(t.response_ids) - 1 for e in episodes for t in e.transitions[-1].turns.values())


def reread_tokens(episodes: Sequence[Episode]) -> int:
    """What reading every turn's whole history anew would come to."""
    return sum(len(t.context_ids) + len(t.response_ids) - 1 for e in episodes for tr in e.transitions for t in tr.turns.values())


# -- rollouts of known length --------------------------------------------------------------------------------------------


def config_of(setting: Setting) -> Config:
    section = {"tuning": "lora", "lora": LoraConfig(rank=8)} if setting.adapters else {}
    return Config(
        method="ma-reinforce",
        agents=[AgentConfig(model="live", device="cpu", max_new_tokens=setting.response, **section) for _ in range(setting.agents)],
        context_window=4096,
        algorithm=AlgorithmConfig(),
        monte_carlo=MonteCarloConfig(samples=setting.samples, joint_mode=setting.joint_mode),
        training=TrainingConfig(micro_batch_tokens=4096),
    )


def team_of(setting: Setting, config: Config, folder: Path) -> Team:
    """Agents on models of their own, or on one base, that never end a response before its limit."""
    names = agent_names(setting.agents)
    if setting.adapters:
        # Only models that are named can be shared; live ones each have a host of their own.
        loaded = random_model(SMALL)
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        named = config.model_copy(update={"agents": [a.model_copy(update={"model": str(folder)}) for a in config.agents]})
        team = build_team(named, names, {}, 1, {})
    else:
        team = build_team(config, names, {}, 1, {name: random_model(SMALL, i) for i, name in enumerate(names)})
    for name, policy in team.policies.items():
        member = policy.host.members[name]
        assert member.decode is not None
        member.decode = replace(member.decode, stop_ids=frozenset())
    if not setting.carries_caches:
        for host in team.hosts.values():
            host._caches = None
    return team


@contextmanager
def read_tokens(hosts: Sequence[Host]) -> Iterator[Callable[[], int]]:
    """Counts meanwhile, at the models' passes, the tokens that generation reads, padding left out."""
    counts: list[int] = []

    def counted(read: Callable[..., Tensor], ids_BT: Tensor, mask_BL: Tensor, *rest: Any) -> Tensor:
        # Hosts work in threads of their own: appending is safe where adding up would lose counts.
        counts.append(int(mask_BL[:, -ids_BT.shape[1] :].sum()))
        return read(ids_BT, mask_BL, *rest)

    with ExitStack() as patches:
        for host in hosts:
            patches.enter_context(patch.object(host._passes, "last_logits", partial(counted, host._passes.last_logits)))
        yield lambda: sum(counts)


class Bench:
    """A team that rolls out and learns with one setting."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.config = setting, config_of(setting)
        self.team = team_of(setting, self.config, folder / "base")
        self.executor: ThreadPoolExecutor = host_workers(len(self.team.hosts))
        self.learner = Learner(self.config, self.team, make_method(self.config), self.executor)
        self.episodes: list[Episode] = []

    def roll_out(self) -> Row:
        s = self.setting
        settings = RolloutSettings(
            "full",
            4096,
            greedy=False,
            update=0,
            in_flight=s.in_flight,
            tree=TreeShape(s.samples, s.joint_mode),
            stamp=lambda: (self.learner.updates, self.learner.policy_steps),
        )
        plans = [EpisodePlan(f"e{i}", None, 100 + i) for i in range(s.episodes)]
        env = partial(FixedEnv, s.agents, s.turns, s.prompt, s.feedback)
        self.episodes, cost = collect(plans, env, self.team.policies, settings, self.executor, lambda: None)
        return {
            "inference_calls": cost.inference_calls,
            "joint_actions": sum(len(e.transitions) for e in self.episodes),
            "generated_tokens": cost.generated_tokens,
        }

    def learn(self) -> None:
        """One update on what was played last."""
        self.learner.store([Stored(e, a) for e in self.episodes for a in range(len(e.transitions))])
        self.learner.update(Progress(0, 1))

    def measure(self, repeats: int, update: bool = True) -> Row:
        """Counts of one rollout; median seconds of rollouts and updates, after one of each that is not counted."""
        with read_tokens(list(self.team.hosts.values())) as tokens:
            row = self.roll_out() | {"read_tokens": tokens()}
        if update:
            self.learn()
        rollouts, updates = [], []
        for _ in range(repeats):
            rollouts.append(timed(self.roll_out).wall)
            if update:
                updates.append(timed(self.learn).wall)
        self.executor.shutdown()
        row["rollout_seconds"] = round(statistics.median(rollouts), 4)
        row["tokens_per_second"] = round(row["generated_tokens"] / statistics.median(rollouts), 1)
        return row | ({"update_seconds": round(statistics.median(updates), 4)} if update else {})


# -- the six questions ---------------------------------------------------------------------------------------------------


def tree_costs(folder: Path, repeats: int) -> dict[str, list[Row]]:
    """Against n, K and H, the other two held."""
    sweeps = {
        "agents": [Setting(agents=n, samples=2, turns=2) for n in range(1, 9)],
        "samples": [Setting(samples=k, turns=3, episodes=1) for k in range(1, 6)],
        "turns": [Setting(samples=2, turns=h, episodes=1) for h in range(1, 8)],
    }
    found: dict[str, list[Row]] = {}
    for name, settings in sweeps.items():
        found[name] = []
        for s in settings:
            row = {name: getattr(s, name), **Bench(s, folder).measure(repeats)}
            row["predicted_calls"] = s.episodes * inference_calls(s.agents, s.samples, s.turns)
            row["predicted_joint_actions"] = s.episodes * joint_actions(s.agents, s.samples, s.turns)
            found[name].append(row)
    return found


def context_costs(folder: Path, repeats: int) -> list[Row]:
    settings = [Setting(agents=1, prompt=length, episodes=8) for length in (64, 128, 256, 512, 1024, 2048)]
    return [{"prompt": s.prompt, **Bench(s, folder).measure(repeats)} for s in settings]


def flight_costs(folder: Path, repeats: int) -> list[Row]:
    settings = [Setting(turns=2, episodes=32, in_flight=size) for size in (1, 2, 4, 8, 16, 32)]
    return [{"in_flight": s.in_flight, **Bench(s, folder).measure(repeats, update=False)} for s in settings]


def adapter_costs(folder: Path, repeats: int) -> list[Row]:
    """n agents as adapters on one base, beside n agents with models of their own; 8 episodes of each."""
    rows: list[Row] = []
    for n in (1, 2, 4, 6, 8):
        row: Row = {"agents": n}
        for kind, adapters in (("adapters", True), ("own_models", False)):
            bench = Bench(Setting(agents=n, turns=2, episodes=8, adapters=adapters), folder)
            unique = {id(p): p.numel() for h in bench.team.hosts.values() for p in h.loaded.model.parameters()}
            row[kind] = bench.measure(repeats) | {"parameters": sum(unique.values())}
        rows.append(row)
    return rows


def history_costs(folder: Path, repeats: int) -> list[Row]:
    """Chains of H turns with caches carried, and with none kept, as a reader of whole histories would."""
    rows: list[Row] = []
    for turns in (1, 2, 4, 8, 12, 16):
        # Much to read and little to write, as where feedback is long: there re-reading shows in the wall time too.
        setting = Setting(turns=turns, episodes=8, prompt=160, feedback=160, response=8)
        bench = Bench(setting, folder)
        carried = bench.measure(repeats, update=False)
        without = Bench(replace(setting, carries_caches=False), folder).measure(repeats, update=False)
        predicted = {"carried": carried_tokens(bench.episodes), "reread": reread_tokens(bench.episodes)}
        rows.append({"turns": turns, "carried": carried, "reread": without, "predicted_tokens": predicted})
    return rows


def checks(result: dict[str, Any]) -> dict[str, bool]:
    """What must hold exactly, whatever the machine."""
    trees = [row for rows in result["trees"].values() for row in rows]
    return {
        "calls_as_prop_4_3": all(r["inference_calls"] == r["predicted_calls"] for r in trees),
        "joint_actions_as_predicted": all(r["joint_actions"] == r["predicted_joint_actions"] for r in trees),
        "read_tokens_linear_in_turns": all(r["carried"]["read_tokens"] == r["predicted_tokens"]["carried"] for r in result["history"]),
        "reread_tokens_as_predicted": all(r["reread"]["read_tokens"] == r["predicted_tokens"]["reread"] for r in result["history"]),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5, help="counted runs of each setting")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "scaling")
    chosen = arguments.parse_args()
    about = machine()
    result: dict[str, Any] = {}
    questions = {
        "trees": tree_costs,
        "context": context_costs,
        "in_flight": flight_costs,
        "adapters": adapter_costs,
        "history": history_costs,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, question in questions.items():
            begun = time.perf_counter()
            result[name] = question(Path(folder), chosen.repeats)
            print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    found = {"checks": checks(result), **result}
    draw_all(found, chosen.out)
    write_result(found, about, chosen.out / "scaling.json")


if __name__ == "__main__":
    main()
