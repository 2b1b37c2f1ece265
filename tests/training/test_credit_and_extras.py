"""Credit on rollout trees and the actor-critic extras, through the production learner: against plain references in float64."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import small_model
from credit_tools import GAMMA, NAMES, START, Grads, all_of, configured, credits_of, gradients, learning, rolled_out, team_of
from run_tools import agent as agent_section
from run_tools import differences, model_folder, toy_config

from collm.config.schema import Config
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.sequences import PolicySample
from collm.training.stop import StopRequested, StopSwitch
from collm.training.trainer import Trainer
from collm.types import Episode, Turn, Upcoming


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    largest = max(float(g.abs().max()) for g in expected.values())
    assert largest > 1e-6, "the reference gradient is zero, nothing is tested"
    assert set(expected) <= set(found)
    for name, grad in found.items():
        want = expected.get(name, torch.zeros_like(grad))
        error = float((grad - want).abs().max())
        assert error <= 1e-8 * max(1.0, largest), f"{name}: off by {error} where the largest is {largest}"


# -- plain references ----------------------------------------------------------------------------------------------------


def token_logprobs(model, turn: Turn) -> torch.Tensor:
    """log pi of each response token, one pass over one sequence, temperature 1."""
    ids = torch.tensor([turn.context_ids + turn.response_ids])
    logp = model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(turn.context_ids)
    return torch.stack([logp[start + t - 1, token] for t, token in enumerate(turn.response_ids)])


def own_value(model, head, context: tuple[int, ...], features) -> torch.Tensor:
    """V at the last token of an agent's context, by the agent's own backbone."""
    hidden = model.base_model(input_ids=torch.tensor([context])).last_hidden_state[0, -1]
    hidden = torch.cat([hidden, torch.tensor(features, dtype=torch.float64)])
    return (head.linear.weight[0] * hidden).sum() + head.linear.bias[0]


def joint_text(episode: Episode, turn: int, agents: list[str], with_responses: bool, info: bool = True) -> list[str]:
    """What a critic reads, piece by piece; a turn past the last is the one that stands upcoming."""
    pieces = []
    sees, says = ("[{} sees]\n", "[{} says]\n") if len(agents) > 1 else ("", "> ")
    for s in range(turn + 1):
        played = s < len(episode.transitions)
        tr = episode.transitions[s] if played else None
        seen = {a: tr.turns[a].observation for a in agents} if tr else episode.upcoming.observations
        m_t = (tr.info if tr else episode.upcoming.info).text
        pieces.append("".join(f"{sees.format(a)}{seen[a]}\n" for a in agents) + (f"[info] {m_t}\n" if info else ""))
        if s < turn or with_responses:
            pieces.append("".join(f"{says.format(a)}{tr.turns[a].text}\n" for a in agents))
    return pieces


def critic_value(critic, episode: Episode, turn: int, with_responses: bool = False) -> torch.Tensor:
    """V(h_t, m_t) or Q(h_t, m_t, a_t) from a pass of its own over text rendered here once more."""
    loaded, head = critic.host.loaded, critic.host.members[critic.member].value_head
    pieces = joint_text(episode, turn, list(critic.agents), with_responses)
    ids = [i for piece in pieces for i in loaded.tokenizer(piece, add_special_tokens=False)["input_ids"]]
    hidden = loaded.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    return (head.linear.weight[0] * hidden).sum() + head.linear.bias[0]


def grads(loss: torch.Tensor, model, head=None) -> dict[str, torch.Tensor]:
    named = {n: p for n, p in model.named_parameters() if p.ndim == 2 and p.requires_grad}
    if head is not None:
        named["head"] = head.linear.weight
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


# -- bootstrapping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
def test_bootstrapping_a_cut_episode_moves_its_last_target_by_the_value_of_what_stands_upcoming(method):
    config = configured(method, algorithm={"bootstrap_truncated": True})
    team = team_of(config)
    kept, plain = rolled_out(config, team, keep_cut=True), rolled_out(config, team)
    assert all(e.transitions[-1].truncated for e in kept)
    on, off = credits_of(config, team, kept), credits_of(config, team, plain)
    for critic in team.critics.values():
        for e in kept:
            last = len(e.transitions) - 1
            value = float(critic_value(critic, e, last + 1).detach())
            assert abs(value) > 1e-3
            moved = [on.targets[critic.name][e.id, t] - off.targets[critic.name][e.id, t] for t in range(last + 1)]
            assert moved == pytest.approx([0.0] * last + [GAMMA * value], abs=1e-9)
            assert off.targets[critic.name][e.id, last] == e.transitions[-1].reward
    for agent in NAMES:
        changed = {key for key in on.advantages[agent] if on.advantages[agent][key] != pytest.approx(off.advantages[agent][key], abs=1e-12)}
        assert changed == {(e.id, len(e.transitions) - 1) for e in kept}


def test_a_terminated_episode_is_never_bootstrapped():
    config = configured(algorithm={"bootstrap_truncated": True})
    team = team_of(config)
    episodes = rolled_out(config, team, keep_cut=True, solved_above=-1.0)
    assert all(e.transitions[-1].terminated and e.upcoming is None for e in episodes)
    credits = credits_of(config, team, episodes)
    assert [credits.targets["critic"][e.id, 0] for e in episodes] == [e.transitions[0].reward for e in episodes]


def test_bootstrapping_in_a_whole_run_changes_the_critic_and_off_is_the_default(tmp_path):
    qwen = model_folder(tmp_path / "qwen3")
    runs = {}
    for name, algorithm in (("default", {}), ("off", {"bootstrap_truncated": False}), ("on", {"bootstrap_truncated": True})):
        config = toy_config([agent_section(qwen)], {}, algorithm=algorithm, training={"updates": 2, "episodes_per_update": 2})
        assert Trainer(config, tmp_path / name).run()
        runs[name] = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert differences(tmp_path / "default", tmp_path / "off") == []
    # The first update's values are all zero; the second's are not.
    assert runs["on"][0]["loss/critic"] == runs["off"][0]["loss/critic"]
    assert runs["on"][1]["loss/critic"] != runs["off"][1]["loss/critic"]


# -- Q -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_step", [1, 2])
def test_q_reads_the_responses_and_its_gradients_equal_the_reference(n_step, monkeypatch):
    config = configured(critic={"kind": "q"}, algorithm={"n_step": n_step})
    team = team_of(config)
    episodes = rolled_out(config, team, count=2, turns=3)
    critic = team.critics["critic"]
    (read,), _ = critic.reader.read(episodes[0], [0, 1])
    text = critic.host.loaded.tokenizer.decode(read.ids)
    assert text == "".join(joint_text(episodes[0], 1, NAMES, with_responses=True))
    head = critic.host.members["critic"].value_head
    loss = torch.zeros((), dtype=torch.float64)
    policy_loss = dict.fromkeys(NAMES, torch.zeros((), dtype=torch.float64))
    for e in episodes:
        q = [critic_value(critic, e, t, with_responses=True) for t in range(3)]
        for t, tr in enumerate(e.transitions):
            after = e.transitions[t : t + n_step]
            bootstrap = q[t + n_step].detach() if t + n_step < 3 else 0.0
            target = sum(GAMMA**k * x.reward for k, x in enumerate(after)) + GAMMA ** len(after) * bootstrap
            loss = loss + (target - q[t]) ** 2 / len(episodes)
            for name in NAMES:
                logp = token_logprobs(team.policies[name].host.loaded.model, tr.turns[name]).sum()
                policy_loss[name] = policy_loss[name] - q[t].detach() * logp / len(episodes)
    expected = {"critic": grads(loss, critic.host.loaded.model.base_model, head)}
    expected["critic"] = {k if k == "head" else f"model.{k}": g for k, g in expected["critic"].items()}
    expected |= {name: grads(policy_loss[name], team.policies[name].host.loaded.model) for name in NAMES}
    (found,), _ = gradients(config, team, episodes, monkeypatch)
    for member, grad in expected.items():
        assert_same(found[member], grad)


# -- a value head on the actor's own backbone ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "info", "cut", "budget"), [("full", "features", False, 16384), ("full", "none", True, 60), ("last", "features", True, 1)]
)
def test_a_shared_backbones_gradient_is_policy_plus_coefficient_times_value(history, info, cut, budget, monkeypatch):
    config = configured(
        "collm-dc",
        history=history,
        critic={"shared_backbone": True, "global_info": info, "value_coef": 0.7},
        algorithm={"bootstrap_truncated": cut, "advantage_normalization": "batch"},
        training={"micro_batch_tokens": budget},
    )
    team = team_of(config)
    episodes = rolled_out(config, team, keep_cut=cut)
    expected: Grads = {}
    for name in NAMES:
        host = team.policies[name].host
        model, head = host.loaded.model, host.members[name].value_head
        values, deltas, logprobs, errors = [], [], [], []
        for e in episodes:
            own = [
                own_value(model, head, tr.turns[name].context_ids, tr.info.features if info == "features" else ()) for tr in e.transitions
            ]
            end = torch.zeros((), dtype=torch.float64)
            if cut:
                end = own_value(model, head, e.upcoming.contexts[name], e.upcoming.info.features if info == "features" else ())
            following = [*own[1:], end]
            for tr, v, after in zip(e.transitions, own, following, strict=True):
                target = tr.reward + GAMMA * after.detach()
                values.append(v)
                errors.append((target - v) ** 2)
                deltas.append(float((target - v).detach()))
                logprobs.append(token_logprobs(model, tr.turns[name]).sum())
        advantage = (np.array(deltas) - np.mean(deltas)) / np.std(deltas, ddof=1)
        total = sum(-a * lp + 0.7 * err for a, lp, err in zip(advantage, logprobs, errors, strict=True))
        expected[name] = grads(total / len(episodes), model, head)
    (found,), metrics = gradients(config, team, episodes, monkeypatch)
    assert set(found) == set(NAMES), "the critics have no step of their own"
    for name in NAMES:
        assert_same(found[name], expected[name])
        assert metrics[f"max_ratio/{name}"] == 1.0
        assert metrics[f"ratio/{name}"] == pytest.approx(1.0, abs=1e-12)  # a mean over micro-batches
        assert metrics[f"value_loss/{name}"] > 0


def test_the_discounted_turn_weight_is_the_actors_and_leaves_a_shared_value_loss_alone(monkeypatch):
    """`turn_weight` weighs turns "in the actors' gradient": a separate critic's loss has none of it, so neither has a shared one's."""
    shared = {"shared_backbone": True, "global_info": "none", "value_coef": 0.7}
    found = {}
    for weight in ("paper", "discounted"):
        config = configured("collm-dc", critic=shared, algorithm={"turn_weight": weight})
        team = team_of(config)
        episodes = rolled_out(config, team)
        (step,), _ = gradients(config, team, episodes, monkeypatch)
        # The policy loss does not reach the head: its gradient is the value loss's alone.
        found[weight] = step["agent_0"]["head"]
    torch.testing.assert_close(found["discounted"], found["paper"])


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_shared_backbone_learns_in_a_whole_run_and_resumes(tuning, tmp_path):
    qwen = model_folder(tmp_path / "qwen3")
    section = agent_section(qwen, tuning=tuning)
    sections = {"method": "collm-dc", "training": {"updates": 3, "episodes_per_update": 2}, "evaluation": {"every": 0}}
    config = toy_config([section] * 2, {"shared_backbone": True}, **sections)
    trainer = Trainer(config, tmp_path / "whole")
    before = {h: state_copy(host) for h, host in trainer.team.hosts.items()}
    assert trainer.run()
    assert [c.shares_backbone for c in trainer.team.critics.values()] == [True, True]
    assert len(trainer.team.hosts) == (2 if tuning == "full" else 1)
    for h, host in trainer.team.hosts.items():
        for member, state in state_copy(host).items():
            assert all(not torch.equal(w, before[h][member]["weights"][k]) for k, w in state["weights"].items() if "value_head" in k)
            assert any(not torch.equal(w, before[h][member]["weights"][k]) for k, w in state["weights"].items() if "value_head" not in k)
    stop_after(config, tmp_path / "pieces", updates=1)
    assert Trainer.resume(tmp_path / "pieces").run()
    assert differences(tmp_path / "whole", tmp_path / "pieces") == []


def state_copy(host: Host) -> dict[str, Any]:
    return copy.deepcopy(host.state())


def stop_after(config: Config, folder: Path, updates: int) -> None:
    """Train until so many updates are done, then stop as on a signal."""
    trainer = Trainer(config, folder)
    inner = trainer._stop.check

    def check() -> None:
        if trainer.counters.updates >= updates:
            raise StopRequested("SIGTERM")
        inner()

    trainer._stop.check = check
    assert not trainer.run()


# -- slow copy and warm-up -----------------------------------------------------------------------------------------------


def test_targets_come_from_the_slow_copy_which_moves_by_its_rate_each_update():
    config = configured(critic={"target_rate": 0.25, "optimizer": {"learning_rate": 0.05}}, algorithm={"bootstrap_truncated": True})
    team = team_of(config)
    critic = team.critics["critic"]
    member = critic.host.members["critic"]
    episodes = rolled_out(config, team, turns=3, keep_cut=True)
    slow, live = [p.clone() for p in member.slow], [p.detach().clone() for p in member.parameters]
    assert all(torch.equal(a, b) for a, b in zip(slow, live, strict=True))
    with learning(config, team) as learner:
        for _ in range(2):
            learner.store(all_of(episodes))
            for e in episodes:  # sampled once, taken as fresh at each update
                for tr in e.transitions:
                    tr.update, tr.policy_version = learner.updates, learner.policy_steps
            credits = learner._credits(all_of(episodes), None)[0]
            inputs, groups = critic.reader.read(episodes[0], range(4))
            assert groups == [[0, 1, 2, 3]]
            (online,), (old,) = critic.host.values("critic", inputs), critic.host.values("critic", inputs, slow=True)
            for t, tr in enumerate(episodes[0].transitions):
                assert credits.targets["critic"][episodes[0].id, t] == pytest.approx(tr.reward + GAMMA * old[t + 1])
                assert credits.values["critic"][episodes[0].id, t] == pytest.approx(online[t])
            learner.update(START)
            slow = [s + 0.25 * (p.detach() - s) for s, p in zip(slow, member.parameters, strict=True)]
            for mine, theirs in zip(slow, member.slow, strict=True):
                torch.testing.assert_close(mine, theirs)
        assert old != pytest.approx(online, abs=1e-6), "copy and critic have not come apart, nothing is tested"


def test_the_slow_copy_moves_with_each_optimizer_step_minibatches_included(monkeypatch):
    config = configured(
        critic={"target_rate": 0.25, "optimizer": {"learning_rate": 0.05}},
        algorithm={"epochs": 2, "minibatch": 2},
        agents={"optimizer": {"learning_rate": 1e-4}},
    )
    team = team_of(config)
    member = team.critics["critic"].host.members["critic"]
    inner, moves = Host.step, []

    def step(self: Host, name: str, at: Progress) -> float:
        before = [p.clone() for p in member.slow]
        norm = inner(self, name, at)
        if name == "critic":
            for old, new, p in zip(before, member.slow, member.parameters, strict=True):
                torch.testing.assert_close(new, old + 0.25 * (p.detach() - old))
            moves.append(max(float((new - old).abs().max()) for old, new in zip(before, member.slow, strict=True)))
        return norm

    monkeypatch.setattr(Host, "step", step)
    with learning(config, team) as learner:
        learner.store(all_of(rolled_out(config, team)))
        learner.update(START)
    assert len(moves) == 6
    assert min(moves) > 0


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_slow_copy_survives_a_checkpoint(tuning, tmp_path):
    qwen, section = model_folder(tmp_path / "qwen3"), {"tuning": tuning}
    config = toy_config(
        [agent_section(qwen, **section)] * 2,
        {"target_rate": 0.3, **section},
        training={"updates": 3, "episodes_per_update": 2},
        evaluation={"every": 0},
    )
    assert Trainer(config, tmp_path / "whole").run()
    stop_after(config, tmp_path / "pieces", updates=2)
    saved = torch.load(tmp_path / "pieces" / "checkpoints" / "update_000002" / "state.pt", weights_only=False)
    critics = [m["critic"] for m in saved["hosts"].values() if "critic" in m]
    slow, weights = critics[0]["slow"], list(critics[0]["weights"].values())
    assert any(not torch.equal(a, b) for a, b in zip(slow, weights, strict=True))
    trainer = Trainer.resume(tmp_path / "pieces")
    for mine, theirs in zip(trainer.team.critics["critic"].host.members["critic"].slow, slow, strict=True):
        assert torch.equal(mine, theirs)
    assert trainer.run()
    assert differences(tmp_path / "whole", tmp_path / "pieces") == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
@pytest.mark.parametrize("replay", [{}, {"max_policy_lag": 1}])
def test_only_the_critic_learns_while_it_warms_up(method, replay, tmp_path):
    qwen = model_folder(tmp_path / "qwen3")
    slow = {"optimizer": {"learning_rate": 1e-3}}
    config = toy_config(
        [agent_section(qwen, **slow)] * 2,
        {"warmup_updates": 2},
        method=method,
        replay=replay,
        training={"updates": 4, "episodes_per_update": 2},
        evaluation={"every": 0},
    )
    trainer = Trainer(config, tmp_path / "run")
    snapshots = []
    inner = trainer.learner.update

    def update(*args, **kwargs):
        metrics = inner(*args, **kwargs)
        snapshots.append({name: [p.detach().clone() for p in host.members[name].parameters] for name, host in trainer.team.hosts.items()})
        return metrics

    first = {name: [p.detach().clone() for p in host.members[name].parameters] for name, host in trainer.team.hosts.items()}
    trainer.learner.update = update
    assert trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["policy_steps"] for row in rows] == [0, 0, 1, 2]
    for u, (before, after) in enumerate(zip([first, *snapshots], snapshots, strict=False)):
        for name in after:
            moved = any(not torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
            assert moved == (name not in NAMES or u >= 2), f"{name} at update {u}"
        assert ("loss/agent_0" in rows[u]) == (u >= 2)
    assert rows[2]["max_ratio/agent_0"] == 1.0, "nothing is stale before the policies' first step"
    assert trainer.learner.steps == 4


# -- updates while episodes are being played -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("episode", [1, 2, 3]),
        ("turn", [3, 6, 9]),
        (2, [3, 6, 9]),
        (3, [1, 3, 4]),
        (4, [1, 3, 4]),
        (5, [1, 2, 3]),
        (6, [1, 2, 3]),
        (7, [0, 1, 2]),
        (100, [0, 0, 0]),
    ],
)
def test_updates_come_when_they_are_due(every, steps, tmp_path):
    """Two episodes of three turns a rollout: six joint transitions, two of them each turn."""
    qwen = model_folder(tmp_path / "qwen3")
    config = toy_config(
        [agent_section(qwen)],
        {},
        {"turns": 3},
        algorithm={"update_every": every},
        training={"updates": 3, "episodes_per_update": 2},
        evaluation={"every": 0},
    )
    trainer = Trainer(config, tmp_path / "run")
    assert trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["policy_steps"] for row in rows] == steps
    assert [row["env_steps"] for row in rows] == [6, 12, 18]
    assert trainer.learner.updates == steps[-1]
    if isinstance(every, int):
        assert len(trainer.learner.buffer) == trainer._online.waiting == 18 - sum(consumed(every, 9))


def consumed(every: int, turns: int) -> list[int]:
    found, waiting = [], 0
    for _ in range(turns):
        waiting += 2
        if waiting >= every:
            found.append(waiting)
            waiting = 0
    return found


@pytest.mark.parametrize("lag", [0, 1])
def test_turn_wise_updates_of_one_turn_equal_episode_wise_ones(lag, tmp_path):
    qwen = model_folder(tmp_path / "qwen3")
    for every in ("turn", "episode"):
        config = toy_config(
            [agent_section(qwen, optimizer={"learning_rate": 1e-3})] * 2,
            {},
            {"turns": 1},
            algorithm={"update_every": every},
            replay={"max_policy_lag": lag},
            training={"updates": 3, "episodes_per_update": 3},
        )
        assert Trainer(config, tmp_path / every).run()
    assert differences(tmp_path / "turn", tmp_path / "episode") == []


def test_turn_wise_gradients_add_up_to_the_episodes(monkeypatch):
    """Without steps in between, the gradients of the turns' updates sum to that of one update with all turns."""
    config = configured()
    team = team_of(config)
    episodes = rolled_out(config, team, turns=3, solved_above=0.55)
    lengths = sorted(len(e.transitions) for e in episodes)
    assert lengths[0] < lengths[-1], "all are as long as each other: means over what is left would go unnoticed"
    (whole,), _ = gradients(config, team, episodes, monkeypatch)
    total: Grads = {}
    kept: list[Grads] = []

    def keep(self: Host, member: str, at: Progress) -> float:
        names = {id(p): n for n, p in self.loaded.model.named_parameters()}
        m = self.members[member]
        mine = total.setdefault(member, {})
        for p in m.parameters:
            if p.ndim == 2 and p.grad is not None:
                key = names.get(id(p), "head")
                mine[key] = mine.get(key, 0) + p.grad.clone()
        m.optimizer.zero_grad(set_to_none=True)
        kept.append({})
        return 0.0

    with monkeypatch.context() as patch, learning(config, team) as learner:
        patch.setattr(Host, "step", keep)
        for turn in range(lengths[-1]):
            new = [s for s in all_of(episodes) if s.transition.turn == turn]
            for s in new:
                s.transition.update, s.transition.policy_version = learner.updates, learner.policy_steps
            learner.store(new)
            learner.update(START, len(episodes))
            assert len(learner.buffer) == 0
    assert len(kept) == 3 * lengths[-1]
    for member in whole:
        assert_same(total[member], whole[member])


def test_a_turn_wise_update_bootstraps_from_what_stands_upcoming():
    config = configured(algorithm={"update_every": "turn"})
    team = team_of(config)
    episodes = rolled_out(config, team, turns=2)
    for e in episodes:  # as the batch stands after its first turn
        second = e.transitions.pop()
        e.upcoming = Upcoming(
            {a: t.observation for a, t in second.turns.items()}, {a: t.context_ids for a, t in second.turns.items()}, second.info
        )
    credits = credits_of(config, team, episodes)
    for e in episodes:
        expected = e.transitions[0].reward + GAMMA * float(critic_value(team.critics["critic"], e, 1).detach())
        assert credits.targets["critic"][e.id, 0] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("every", ["turn", 5])
def test_a_run_with_updates_within_episodes_stopped_again_and_again_equals_the_uninterrupted_one(every, tmp_path, monkeypatch):
    qwen = model_folder(tmp_path / "qwen3")
    config = toy_config(
        [agent_section(qwen)] * 2,
        {},
        {"turns": 2},
        algorithm={"update_every": every},
        training={"updates": 4, "episodes_per_update": 2, "checkpoint_every": 3},
        evaluation={"every": 0},
    )
    assert Trainer(config, tmp_path / "whole").run()
    left = 0

    def check(self: StopSwitch) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StopRequested("SIGTERM")

    monkeypatch.setattr(StopSwitch, "check", check)
    for sitting in itertools.count():
        trainer = Trainer(config, tmp_path / "pieces") if sitting == 0 else Trainer.resume(tmp_path / "pieces")
        left = 4 + 5 * sitting
        if trainer.run():
            break
        assert sitting < 20
    assert sitting >= 2
    assert differences(tmp_path / "whole", tmp_path / "pieces") == []


def test_transitions_that_wait_are_counted_right_after_a_stop_within_a_rollout(tmp_path):
    """Stopped between the turns of an unsaved rollout: its transitions are played again, so they must not count as waiting."""
    qwen = model_folder(tmp_path / "qwen3")
    config = toy_config(
        [agent_section(qwen)],
        {},
        algorithm={"update_every": 5},
        training={"updates": 4, "episodes_per_update": 2, "checkpoint_every": 10},
        evaluation={"every": 0},
    )
    whole = Trainer(config, tmp_path / "whole")
    assert whole.run()
    trainer = Trainer(config, tmp_path / "pieces")
    inner = trainer._stop.check

    def check() -> None:
        # Two turns a rollout, two transitions a turn: 2 and 4 wait, 6 are learned from, then 2 of the second rollout wait, then 4.
        if trainer.counters.updates == 2 and trainer._online.waiting == 4:
            raise StopRequested("SIGTERM")
        inner()

    trainer._stop.check = check
    assert not trainer.run()
    saved = torch.load(tmp_path / "pieces" / "checkpoints" / "update_000002" / "state.pt", weights_only=False)
    assert len(saved["learner"]["buffer"]["stored"]) == 2
    assert saved["waiting"] == 2
    assert Trainer.resume(tmp_path / "pieces").run()
    assert differences(tmp_path / "whole", tmp_path / "pieces") == []


# -- replay --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["collm-cc", "collm-dc", "magrpo", "maremax"])
def test_stale_samples_are_weighed_by_their_ratio_and_expire(method):
    config = configured(method, replay={"max_policy_lag": 1}, agents={"optimizer": {"learning_rate": 1e-3}}, monte_carlo={"samples": 2})
    team = team_of(config)
    host = team.policies["agent_0"].host
    with learning(config, team) as learner:
        played: list[list[Episode]] = []
        for u in range(3):
            played.append(rolled_out(config, team, count=2, update=u, steps=learner.policy_steps))
            learner.store(all_of(played[-1]))
            usable = {s.transition.update for s in learner.buffer.draw(None, "uniform", 0)}
            assert usable == {u} | ({u - 1} if u else set())
            if u:
                old = [tr for e in played[u - 1] for tr in e.transitions if not tr.greedy]
                turns = [tr.turns["agent_0"] for tr in old]
                now = host.score("agent_0", [PolicySample(t.context_ids, t.response_ids, {}, "") for t in turns])
                ratios = [np.exp(sum(new) - sum(tr.old_logprobs["agent_0"])) for tr, new in zip(old, now, strict=True)]
                assert max(abs(r - 1) for r in ratios) > 1e-4
                fresh = sum(not tr.greedy for e in played[u] for tr in e.transitions)
            metrics = learner.update(START)
            if u == 0:
                assert metrics["max_ratio/agent_0"] == metrics["ratio/agent_0"] == 1.0
            else:
                assert metrics["ratio/agent_0"] == pytest.approx((sum(ratios) + fresh) / (len(ratios) + fresh), rel=1e-9)
                assert metrics["max_ratio/agent_0"] == pytest.approx(max([*ratios, 1.0]), rel=1e-9)
            assert {s.transition.update for s in learner.buffer.draw(None, "uniform", 0)} == {u}
            assert not any(s.transition.greedy for s in learner.buffer.draw(None, "uniform", 0))


@pytest.mark.parametrize(("ratio", "clip"), [("sequence", None), ("sequence", 0.2), ("token", None), ("token", 0.1)])
@pytest.mark.parametrize("method", ["collm-dc", "magrpo"])
def test_the_gradient_on_stale_samples_equals_the_reference(method, ratio, clip, monkeypatch):
    """log pi_old is recorded, the weights move, and only then the update comes: rho and its clip as the formulas say."""
    config = configured(method, algorithm={"ratio": ratio, "clip_ratio": clip}, replay={"max_policy_lag": 1}, monte_carlo={"samples": 2})
    team = team_of(config)
    episodes = rolled_out(config, team)
    old = {
        (name, s.key): token_logprobs(team.policies[name].host.loaded.model, s.transition.turns[name]).detach()
        for name in NAMES
        for s in all_of(episodes)
    }
    found: Grads = {}

    def keep(self: Host, member: str, at: Progress) -> float:
        names = {id(p): n for n, p in self.loaded.model.named_parameters()}
        parameters = self.members[member].parameters
        found[member] = {names.get(id(p), "head"): p.grad.clone() for p in parameters if p.ndim == 2 and p.grad is not None}
        return 0.0

    with monkeypatch.context() as patch, learning(config, team) as learner:
        learner.store(all_of(episodes))
        with torch.no_grad():
            for name in NAMES:
                for i, p in enumerate(team.policies[name].host.members[name].parameters):
                    p.add_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)), alpha=0.01)
        learner.policy_steps = 1
        credits = learner._credits(all_of(episodes), None)[0]
        patch.setattr(Host, "step", keep)
        metrics = learner.update(START)
    for name in NAMES:
        model, total, bound = team.policies[name].host.loaded.model, torch.zeros((), dtype=torch.float64), 0
        for s in all_of(episodes):
            new = token_logprobs(model, s.transition.turns[name])
            rho = (new - old[name, s.key]).exp() if ratio == "token" else (new - old[name, s.key]).sum().exp()[None]
            a = credits.advantages[name][s.key]
            terms = -rho * a
            if clip is not None:
                bounded = rho.clamp(1 - clip, 1 + clip)
                bound += int((bounded != rho).sum())
                terms = torch.maximum(terms, -bounded * a)
            total = total + credits.weights[name][s.key] * terms.sum() / len(episodes)
        assert_same(found[name], grads(total, model))
        assert metrics[f"max_ratio/{name}"] > 1.01
        assert (metrics[f"clip_fraction/{name}"] > 0) == (bound > 0) == (clip is not None)


# -- KL to the initial weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("method", ["collm-cc", "marloo"])
def test_the_kl_gradient_is_taken_against_the_initial_weights(method, tuning, monkeypatch):
    config = configured(method, n=1, agents={"tuning": tuning}, algorithm={"kl_coef": 0.4})
    initial = small_model("qwen3", 0, torch.float64).model
    team = team_of(config)
    host = team.policies["agent_0"].host
    assert (host._reference is None) == (tuning == "lora"), "adapters are switched off, so no second copy is kept"
    episodes = rolled_out(config, team)
    _, metrics = gradients(config, team, episodes, monkeypatch)
    assert metrics["reference_kl/agent_0"] == 0.0, "zero, exactly, before the first update"
    with torch.no_grad():
        for i, p in enumerate(host.members["agent_0"].parameters):
            p.add_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)), alpha=0.03)
    host.forget()
    credits = credits_of(config, team, episodes)
    model, total, kls = host.loaded.model, torch.zeros((), dtype=torch.float64), []
    host._activate("agent_0")
    for s in all_of(episodes):
        turn = s.transition.turns["agent_0"]
        mine = token_logprobs(model, turn)
        with torch.no_grad():
            d_ref = token_logprobs(initial, turn)
        k3 = ((d_ref - mine).exp() - (d_ref - mine) - 1).sum()
        kls.append(float(k3.detach()))
        advantage, weight = credits.advantages["agent_0"][s.key], credits.weights["agent_0"][s.key]
        total = total + weight * (-advantage * mine.sum() + 0.4 * k3) / len(episodes)
    expected = grads(total, model)
    (found,), metrics = gradients(config, team, episodes, monkeypatch)
    assert metrics["reference_kl/agent_0"] == pytest.approx(np.mean(kls))
    assert np.mean(kls) > 1e-3
    assert_same(found["agent_0"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_reference_stays_the_initial_policy_over_a_run_and_a_resume(tuning, tmp_path):
    qwen = model_folder(tmp_path / "qwen3")
    config = toy_config(
        [agent_section(qwen, tuning=tuning)] * 2,
        {"tuning": tuning},
        algorithm={"kl_coef": 0.1},
        training={"updates": 3, "episodes_per_update": 2},
        evaluation={"every": 0},
    )
    trainer = Trainer(config, tmp_path / "whole")
    base = {n: p.detach().clone() for n, p in trainer.team.policies["agent_0"].host.loaded.model.named_parameters() if "lora_" not in n}
    assert trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["reference_kl/agent_0"] > 0 for row in rows] == [False, True, True]
    host = trainer.team.policies["agent_0"].host
    reference = host._reference.model if tuning == "full" else host.loaded.model
    assert all(torch.equal(p, base[n]) for n, p in reference.named_parameters() if "lora_" not in n)
    if tuning == "lora":
        assert len(trainer.team.hosts) == 1
        assert host._reference is None
    stop_after(config, tmp_path / "pieces", updates=2)
    assert Trainer.resume(tmp_path / "pieces").run()
    assert differences(tmp_path / "whole", tmp_path / "pieces") == []


@pytest.mark.parametrize(("tuning", "shared"), [("full", False), ("lora", False), ("lora", True)])
def test_recomputed_activations_change_no_gradient_with_a_reference_or_a_shared_head(tuning, shared, monkeypatch):
    found = []
    for checkpointing in (False, True):
        config = configured(
            "collm-dc",
            agents={"tuning": tuning},
            critic={"shared_backbone": shared, "tuning": tuning},
            algorithm={"kl_coef": 0.4, "entropy_coef": 0.1},
            training={"gradient_checkpointing": checkpointing},
        )
        team = team_of(config)
        with torch.no_grad():
            for policy in team.policies.values():
                for i, p in enumerate(policy.host.members[policy.agent].parameters):
                    p.add_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(i)), alpha=0.03)
        (step,), metrics = gradients(config, team, rolled_out(config, team), monkeypatch)
        assert metrics["reference_kl/agent_0"] > 1e-4
        found.append(step)
    for member in found[0]:
        assert_same(found[1][member], found[0][member])


def test_no_reference_is_kept_where_no_kl_is_asked_for():
    config = configured(n=1)
    assert team_of(config).policies["agent_0"].host._reference is None


def test_the_entropy_bonus_pushes_towards_more_entropy(monkeypatch):
    """Its gradient is minus the coefficient times the gradient of the mean entropy, beside the policy's own."""
    config, bonus = configured(n=1), configured(n=1, algorithm={"entropy_coef": 0.3})
    team = team_of(config)
    episodes = rolled_out(config, team)
    (plain,), _ = gradients(config, team, episodes, monkeypatch)
    (found,), _ = gradients(bonus, team, episodes, monkeypatch)
    model, total = team.policies["agent_0"].host.loaded.model, torch.zeros((), dtype=torch.float64)
    for s in all_of(episodes):
        turn = s.transition.turns["agent_0"]
        logp = model(input_ids=torch.tensor([turn.context_ids + turn.response_ids])).logits[0].log_softmax(-1)
        rows = logp[len(turn.context_ids) - 1 : -1]
        total = total + (-(rows.exp() * rows).sum(-1)).mean() / len(episodes)
    expected = {n: -0.3 * g for n, g in grads(total, model).items()}
    assert_same({n: found["agent_0"][n] - plain["agent_0"][n] for n in expected}, expected)


# -- trees ---------------------------------------------------------------------------------------------------------------


def tree_reference(episodes: list[Episode], name: str, method: str, model) -> dict[str, torch.Tensor]:
    """sum over nodes of their weight times the mean over the agent's responses of A log pi, by recursion, mean over trees."""
    total = torch.zeros((), dtype=torch.float64)

    def value(e: Episode, index: int) -> float:
        after = [i for i, tr in enumerate(e.transitions) if tr.parent == index and tr.greedy == e.transitions[index].greedy]
        return e.transitions[index].reward + GAMMA * (np.mean([value(e, i) for i in after]) if after else 0.0)

    def add(e: Episode, node: int | None, weight: float) -> None:
        nonlocal total
        here = [i for i, tr in enumerate(e.transitions) if tr.parent == node]
        sampled = [i for i in here if not e.transitions[i].greedy]
        if not sampled:
            return
        picks = sorted({e.transitions[i].pick(name) for i in sampled})
        mine = [[i for i in sampled if e.transitions[i].pick(name) == k] for k in picks]
        returns = [np.mean([value(e, i) for i in group]) for group in mine]
        greedy = [value(e, i) for i in here if e.transitions[i].greedy]
        for k, group in enumerate(mine):
            others = [g for j, g in enumerate(returns) if j != k]
            baseline = {"ma-reinforce": 0.0, "magrpo": np.mean(returns), "marloo": np.mean(others or [0]), "maremax": (greedy or [0])[0]}[
                method
            ]
            logp = token_logprobs(model, e.transitions[group[0]].turns[name]).sum()
            total = total - weight / len(mine) * float(returns[k] - baseline) * logp / len(episodes)
        for i in sampled:
            add(e, i, weight / len(sampled))

    for e in episodes:
        add(e, None, 1.0)
    return grads(total, model)


@pytest.mark.parametrize(
    ("method", "mode", "samples", "turns"),
    [
        ("ma-reinforce", "aligned", 2, 3),
        ("ma-reinforce", "aligned", 1, 2),
        ("magrpo", "crossed", 2, 2),
        ("marloo", "aligned", 3, 2),
        ("maremax", "aligned", 1, 3),
        ("maremax", "crossed", 2, 2),
    ],
)
def test_the_gradient_of_a_tree_equals_the_reference(method, mode, samples, turns, monkeypatch):
    config = configured(method, monte_carlo={"samples": samples, "joint_mode": mode}, training={"micro_batch_tokens": 300})
    team = team_of(config)
    episodes = rolled_out(config, team, count=2, turns=turns, solved_above=0.55)
    assert any(tr.terminated for e in episodes for tr in e.transitions)
    (found,), metrics = gradients(config, team, episodes, monkeypatch)
    for name in NAMES:
        assert_same(found[name], tree_reference(episodes, name, method, team.policies[name].host.loaded.model))
        assert metrics[f"max_ratio/{name}"] == 1.0
        assert metrics[f"ratio/{name}"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("method", ["magrpo", "collm-cc"])
@pytest.mark.parametrize("size", [1, 5])
def test_minibatch_gradients_weighted_by_their_size_sum_to_the_whole(method, size, monkeypatch):
    trees = {"monte_carlo": {"samples": 2, "joint_mode": "crossed"}} if method == "magrpo" else {}
    config = configured(method, **trees)
    parts = configured(method, **trees, algorithm={"minibatch": size})
    team = team_of(config)
    episodes = rolled_out(config, team, count=2 if method == "magrpo" else 4, turns=2, solved_above=0.65)
    (whole,), _ = gradients(config, team, episodes, monkeypatch)
    pieces, _ = gradients(parts, team, episodes, monkeypatch)
    count = sum(len(e.transitions) for e in episodes)
    sizes = [min(size, count - start) for start in range(0, count, size)]
    assert len(pieces) == len(sizes) > 1
    for member in whole:
        total = {n: sum(s / count * piece[member][n] for s, piece in zip(sizes, pieces, strict=True)) for n in whole[member]}
        assert_same(total, whole[member])


@pytest.mark.parametrize("method", ["collm-cc", "marloo"])
def test_discounted_turn_weights_scale_each_turns_part_of_the_actors_gradient(method, monkeypatch):
    parts: Callable[[str], Config] = lambda weight: configured(method, algorithm={"turn_weight": weight})  # noqa: E731
    team = team_of(parts("paper"))
    episodes = rolled_out(parts("paper"), team, turns=2)
    (paper,), _ = gradients(parts("paper"), team, episodes, monkeypatch)
    (discounted,), _ = gradients(parts("discounted"), team, episodes, monkeypatch)
    credits = credits_of(parts("paper"), team, episodes)
    for name in NAMES:
        model = team.policies[name].host.loaded.model
        by_turn = [torch.zeros((), dtype=torch.float64) for _ in range(2)]
        for s in all_of(episodes):
            logp = token_logprobs(model, s.transition.turns[name]).sum()
            weight = credits.weights[name][s.key] / len(episodes)
            by_turn[s.transition.turn] = by_turn[s.transition.turn] - weight * credits.advantages[name][s.key] * logp
        turns = [grads(total, model) for total in by_turn]
        assert_same(paper[name], {n: turns[0][n] + turns[1][n] for n in turns[0]})
        assert_same(discounted[name], {n: turns[0][n] + GAMMA * turns[1][n] for n in turns[0]})
    if method == "collm-cc":
        assert_same(discounted["critic"], paper["critic"])
