"""Lines 1 to 15 of the project's list of pitfalls (pitfalls.md): defects of the estimator seen in published code.

Each test bears the number of the line it rules out; where a line names several defects, each has a test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import byte_tokenizer, small_model
from pitfalls.pitfall_tools import (
    CPU,
    gradients,
    learn,
    live_models,
    make_config,
    make_team,
    play,
    random_heads,
    record,
    reference_logprobs,
    stored,
    training_sample,
)
from run_tools import last_state, log_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toy_envs import LettersEnv
from transformers import PreTrainedTokenizerFast

from collm.algorithms.ma_reinforce import MAReinforce
from collm.algorithms.magrpo import MAGRPO
from collm.config.schema import AlgorithmConfig, OptimizerConfig
from collm.config.tasks import StrBuildTask
from collm.envs.registry import make_env
from collm.envs.strbuild.rows import row_layout
from collm.errors import ContextOverflowError, EnvContractError, ModelError, NonFiniteLossError
from collm.models.chat import ChatFormat
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.loading import LoadedModel, embedding_rows, load_model
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample
from collm.rollout.branch import TreeShape
from collm.training.buffer import Stored
from collm.training.credit import monte_carlo_credits
from collm.training.display import Display
from collm.training.trainer import Trainer
from collm.types import GlobalInfo

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 "


def env(**changes):
    """Environments in which small random models earn different rewards."""
    return lambda: LettersEnv(**{"letters": LETTERS, "base": 0.5, **changes})


def policy_host(loaded: LoadedModel, rule: SupportRule = SupportRule(), budget: int = 10**6, new: int = 12) -> Host:  # noqa: B008
    host = Host("h", loaded, CPU, budget, False)
    host.add_policy("p", DecodeSpec(rule, new, frozenset({loaded.tokenizer.eos_token_id})), OptimizerConfig(), None, 0)
    return host


# -- 1: the last response token -----------------------------------------------------------------------------------------


def test_pitfall_01_last_response_token_is_in_the_log_probability():
    """With the off-by-one slice the score has one number too few and misses log pi(EOS)."""
    loaded = small_model("gpt2", dtype=torch.float64)
    eos = loaded.tokenizer.eos_token_id
    context, response = tuple(range(70, 80)), (101, 102, 103, eos)
    (scores,) = policy_host(loaded).score("p", [PolicySample(context, response, {}, "")])
    expected = reference_logprobs(loaded.model, context, response)
    assert scores == pytest.approx(expected, abs=1e-10)
    assert expected[-1] < -1, "the EOS must weigh something for its loss to show"


def test_pitfall_01_the_decision_to_stop_is_trained():
    """A response that is only its EOS would have log-probability 0 and no gradient if its last token were dropped."""
    loaded = small_model("gpt2", dtype=torch.float64)
    eos, context = loaded.tokenizer.eos_token_id, tuple(range(70, 80))
    metrics, grads = gradients(policy_host(loaded), "p", [training_sample(context, (eos,))])
    logprob = loaded.model(input_ids=torch.tensor([context])).logits[0, -1].log_softmax(-1)[eos]
    loaded.model.zero_grad()
    (-logprob).backward()
    assert metrics["logprob"] == pytest.approx(logprob.item(), abs=1e-10)
    for p, grad in zip(loaded.model.parameters(), grads, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-9, atol=1e-12)
    assert max(float(g.abs().max()) for g in grads) > 1e-3


# -- 2: padding and EOS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_pitfall_02_padding_after_eos_is_not_in_the_loss(pad_is_eos):
    """Padded beside a long response, a short one's loss and gradient would change if its padding counted."""
    loaded = small_model("qwen3", dtype=torch.float64, pad_is_eos=pad_is_eos)
    eos = loaded.tokenizer.eos_token_id
    samples = [training_sample((70, 71, 72), (100, eos), 0.7), training_sample(tuple(range(80, 95)), (*range(40, 60), eos), -0.4)]
    host = policy_host(loaded)
    together, grads = gradients(host, "p", samples)
    alone = [gradients(host, "p", [s]) for s in samples]
    expected = [sum(reference_logprobs(loaded.model, s.context_ids, s.response_ids)) for s in samples]
    assert [m["logprob"] for m, _ in alone] == pytest.approx(expected, abs=1e-9)
    assert together["logprob"] == pytest.approx(np.mean(expected), abs=1e-9)
    for whole, first, second in zip(grads, alone[0][1], alone[1][1], strict=True):
        torch.testing.assert_close(whole, first + second, rtol=1e-9, atol=1e-11)


def test_pitfall_02_eos_counts_where_it_shares_its_id_with_padding():
    """Masked by `ids != pad`, the closing EOS would leave the score, and rho would compare different sums."""
    loaded = small_model("gpt2", dtype=torch.float64, pad_is_eos=True)
    eos = loaded.tokenizer.eos_token_id
    assert loaded.tokenizer.pad_token_id == eos
    with torch.no_grad():  # a larger EOS logit, so that rows end by themselves, at different lengths
        weight = loaded.model.lm_head.weight[eos]
        loaded.model.transformer.ln_f.bias += 3 * weight / weight.square().sum()
    host = policy_host(loaded, new=30)
    requests = [GenerationRequest("p", i, None, tuple(range(60 + i, 70 + 2 * i)), i, False) for i in range(8)]
    answers = host.generate(requests)
    ended = [(r, a) for r, a in zip(requests, answers, strict=True) if a.response_ids[-1] == eos]
    assert len(ended) >= 3
    assert len({len(a.response_ids) for _, a in ended}) >= 3
    scores = host.score("p", [PolicySample(r.context_ids, a.response_ids, {}, "") for r, a in ended])
    for (request, answer), score in zip(ended, scores, strict=True):
        expected = reference_logprobs(loaded.model, request.context_ids, answer.response_ids)
        assert score == pytest.approx(expected, abs=1e-9)
        assert answer.logprob == pytest.approx(sum(expected), abs=1e-9)


def test_pitfall_02_a_prompt_that_contains_the_padding_id_is_not_cut():
    """Were the prompt cut at (or masked by) the id, score and next token would be those of another context."""
    loaded = small_model("gpt2", dtype=torch.float64, pad_is_eos=True)
    eos = loaded.tokenizer.eos_token_id
    context, response = (70, 71, eos, 72, 73, eos, eos, 74), (100, 101, eos)
    host = policy_host(loaded)
    # Beside a longer row, so that there is padding to be mixed up with.
    other = PolicySample(tuple(range(40, 70)), (100,), {}, "")
    score = host.score("p", [PolicySample(context, response, {}, ""), other])[0]
    assert score == pytest.approx(reference_logprobs(loaded.model, context, response), abs=1e-9)
    for wrong in (context[:2], context[3:5] + context[7:], tuple(t for t in context if t != eos)):
        assert abs(sum(score) - sum(reference_logprobs(loaded.model, wrong, response))) > 1e-3
    first, _ = host.generate([GenerationRequest("p", k, None, c, 0, True) for k, c in enumerate((context, other.context_ids))])
    best = loaded.model(input_ids=torch.tensor([context])).logits[0, -1].argmax()
    assert first.response_ids[0] == int(best)


# -- 3: rho -------------------------------------------------------------------------------------------------------------

STALE = {
    "minibatches": ("collm-cc", {"algorithm": {"minibatch": 2}}),
    "epochs": ("collm-dc", {"algorithm": {"epochs": 3}}),
    "turn_groups": ("collm-cc", {"algorithm": {"update_every": "turn"}, "replay": {"max_policy_lag": 1}}),
    "tree_nodes": ("magrpo", {"algorithm": {"minibatch": 4}}),
}


@pytest.mark.parametrize("how", STALE)
def test_pitfall_03_rho_is_applied_where_data_goes_stale(how, tmp_path, monkeypatch):
    """Without rho the reported ratios would all be 1 and the loss -A: here every one is pi / pi_old from the sampler's own book."""
    method, sections = STALE[how]
    config = make_config(method, training={"updates": 1, "episodes_per_update": 2}, **sections)
    seen = record(monkeypatch)
    Trainer(config, tmp_path / "run", models=live_models(config), env=env(turns=2)).run()
    for name in ("agent_0", "agent_1"):
        calls = [c for c in seen.policy if c.member == name]
        assert len(calls) >= 2
        ratios = []
        for call in calls:
            old = [seen.sampled[name, s.context_ids, s.response_ids] for s in call.samples]
            rho = np.exp(np.array(call.logprobs) - np.array(old))
            advantage = np.array([s.data["advantage"] for s in call.samples])
            assert call.metrics["ratio"] == pytest.approx(rho.mean(), rel=1e-6)
            assert call.metrics["policy_loss"] == pytest.approx(-(rho * advantage).mean(), rel=1e-6, abs=1e-9)
            ratios.append(rho)
        np.testing.assert_allclose(ratios[0], 1.0, atol=1e-9)
        assert max(np.abs(r - 1).max() for r in ratios[1:]) > 0.05, "nothing went stale: the test says nothing"


# -- 4: replay ----------------------------------------------------------------------------------------------------------


def test_pitfall_04_replayed_data_is_trained_on_again(tmp_path, monkeypatch):
    """A buffer cleared after each update would train on 4 joint transitions every time, never on 8 and 12."""
    config = make_config(training={"updates": 4, "episodes_per_update": 2}, replay={"max_policy_lag": 2})
    seen = record(monkeypatch)
    Trainer(config, tmp_path / "run", models=live_models(config), env=env(turns=2)).run()
    calls = [c for c in seen.policy if c.member == "agent_0"]
    assert [len(c.samples) for c in calls] == [4, 8, 12, 12]
    episodes = [sorted({int(s.origin.split()[1]) for s in c.samples}) for c in calls]
    assert episodes == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7]]
    assert [c.metrics["max_ratio"] != 1.0 for c in calls] == [False, True, True, True]


# -- 5: what the critic sees --------------------------------------------------------------------------------------------


def values_of(critic, episode) -> list[float]:
    inputs, groups = critic.reader.read(episode, range(len(episode.transitions)))
    rows = critic.host.values(critic.member, inputs)
    return [v for _, v in sorted((t, v) for group, row in zip(groups, rows, strict=True) for t, v in zip(group, row, strict=True))]


def test_pitfall_05_the_critic_reads_the_joint_history():
    """A critic fed with the current prompts would not notice another agent's earlier response or first prompt."""
    config = make_config()
    team = make_team(config)
    (episode,) = play(config, team, env(turns=3), episodes=1)
    critic = team.critics["critic"]
    before = values_of(critic, episode)
    first = episode.transitions[0].turns
    for change in ({"text": "quite another answer"}, {"observation": "quite another prompt"}):
        for agent in ("agent_0", "agent_1"):
            kept = first[agent]
            first[agent] = replace(kept, **change)
            after = values_of(critic, episode)
            first[agent] = kept
            moved = [abs(a - b) > 1e-4 for a, b in zip(after, before, strict=True)]
            assert moved == [list(change) == ["observation"], True, True], (agent, change)


@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
def test_pitfall_05_m_t_has_a_way_into_the_critic_as_text(method):
    """A critic without m_t would give the same value whatever the last reward was."""
    config = make_config(method, critic={"global_info": "text"})
    team = make_team(config)
    (episode,) = play(config, team, env(turns=2), episodes=1)
    for critic in team.critics.values():
        before = values_of(critic, episode)
        kept = episode.transitions[1].info
        episode.transitions[1].info = GlobalInfo("turn 1 of 2, last 9.99", kept.features)
        after = values_of(critic, episode)
        episode.transitions[1].info = kept
        assert after[0] == pytest.approx(before[0], abs=1e-12)
        assert abs(after[1] - before[1]) > 1e-4


@pytest.mark.parametrize(("method", "shared"), [("collm-cc", False), ("collm-dc", False), ("collm-dc", True)])
def test_pitfall_05_m_t_has_a_way_into_the_critic_as_numbers(method, shared):
    """V must move by exactly the head's weight times the change of the feature."""
    config = make_config(method, critic={"global_info": "features", "shared_backbone": shared})
    team = make_team(config)
    (episode,) = play(config, team, env(turns=2), episodes=1)
    for critic in team.critics.values():
        before = values_of(critic, episode)
        kept = episode.transitions[1].info
        episode.transitions[1].info = GlobalInfo(kept.text, kept.features + np.array([0.0, 2.0], dtype=np.float32))
        after = values_of(critic, episode)
        episode.transitions[1].info = kept
        head = critic.host.members[critic.member].value_head
        assert after[0] == before[0]
        assert after[1] - before[1] == pytest.approx(2.0 * head.linear.weight[0, -1].item(), abs=1e-9)


# -- 6: truncation ------------------------------------------------------------------------------------------------------


def rendered_value(team, text: str) -> float:
    """V of a text rendered here, from one plain pass of the critic's model."""
    critic = team.critics["critic"]
    loaded, head = critic.host.loaded, critic.host.members["critic"].value_head
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = loaded.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        return float((head.linear.weight[0] * hidden).sum() + head.linear.bias[0])


def seen_text(observations: dict[str, str], info: str) -> str:
    return "".join(f"[{a} sees]\n{o}\n" for a, o in observations.items()) + f"[info] {info}\n"


def said_text(turns) -> str:
    return "".join(f"[{a} says]\n{turn.text}\n" for a, turn in turns.items())


def text_after(episode) -> str:
    """The joint history after the last of two turns, as `LettersEnv` words it."""
    text, last = "", episode.transitions[-1]
    for tr in episode.transitions:
        text += seen_text({a: t.observation for a, t in tr.turns.items()}, tr.info.text) + said_text(tr.turns)
    word = last.turns["agent_0"].observation.split()[0]
    return text + seen_text({f"agent_{i}": f"{word} 2 {i}" for i in (0, 1)}, f"turn 2 of 2, last {last.metrics['share']:.2f}")


@pytest.mark.parametrize(("bootstrap", "terminates"), [(True, False), (False, False), (True, True)])
def test_pitfall_06_the_last_turn_s_target_says_what_was_asked_for(bootstrap, terminates, tmp_path, monkeypatch):
    """Taken for a termination, a cut episode's last target would be r although V beyond the cut was wanted."""
    config = make_config(algorithm={"bootstrap_truncated": bootstrap}, training={"updates": 1, "episodes_per_update": 2})
    assert config.algorithm.discount == 0.9
    make_letters = env(turns=2, solved_above=-1.0 if terminates else 2.0)
    trainer = Trainer(config, tmp_path / "run", models=live_models(config), env=make_letters)
    random_heads(trainer.team)
    expected: dict[str, float] = {}
    store = trainer.learner.store

    def before_the_update(new: list[Stored]) -> float:
        for episode in {s.episode.id: s.episode for s in new}.values():
            last = episode.transitions[-1]
            expected[episode.id] = last.reward
            if bootstrap and not terminates:
                beyond = rendered_value(trainer.team, text_after(episode))
                assert abs(beyond) > 1e-3
                expected[episode.id] += 0.9 * beyond
        return store(new)

    monkeypatch.setattr(trainer.learner, "store", before_the_update)
    seen = record(monkeypatch)
    trainer.run()
    # What stands beyond the cut is read in the same input and learns nothing.
    learned = {
        i.origin.split()[1]: [y for y, w in zip(i.data["target"], i.weights, strict=True) if w]
        for _, (*inputs,) in seen.values
        for i in inputs
    }
    found = {key: targets[-1] for key, targets in learned.items()}
    assert len(found) == 2
    assert found == pytest.approx(expected, abs=1e-9)


def test_pitfall_06_truncation_and_termination_are_told_apart(tmp_path):
    """Merged into one `done` flag, the log could not say how an episode ended."""
    for solved, flags, share in ((2.0, (False, True), 0.0), (-1.0, (True, False), 1.0)):
        config = make_config(training={"updates": 1, "episodes_per_update": 2})
        run = tmp_path / str(solved)
        Trainer(config, run, models=live_models(config), env=env(turns=2, solved_above=solved)).run()
        for row in log_rows(run, "episodes.jsonl"):
            assert (row["turns"][-1]["terminated"], row["turns"][-1]["truncated"]) == flags
            assert len(row["turns"]) == (1 if solved < 0 else 2)
        assert log_rows(run, "metrics.jsonl")[0]["terminated_share"] == share


# -- 7: sampling and scoring under one distribution ---------------------------------------------------------------------


def test_pitfall_07_scores_are_taken_under_the_sampling_distribution(monkeypatch):
    """Scored at temperature 1 over the whole vocabulary, log pi_old would be off by nats and rho = 1 would mean nothing."""
    rule = {"temperature": 0.6, "top_p": 0.6}
    config = make_config(agent_changes=rule, algorithm={"epochs": 2})
    live = live_models(config)
    team = make_team(config, live)
    episodes = play(config, team, env(turns=2))
    turns = [(name, tr.turns[name]) for e in episodes for tr in e.transitions for name in tr.turns]
    wrong = 0.0
    for name, turn in turns:
        (score,) = team.policies[name].host.score(name, [PolicySample(turn.context_ids, turn.response_ids, {}, "")])
        expected = reference_logprobs(live[name].model, turn.context_ids, turn.response_ids, **rule)
        assert score == pytest.approx(expected, abs=1e-9)
        assert turn.behaviour_logprob == pytest.approx(sum(expected), abs=1e-9)
        assert turn.kept_mass < 0.95
        wrong = max(wrong, abs(sum(reference_logprobs(live[name].model, turn.context_ids, turn.response_ids)) - sum(expected)))
    assert wrong > 1.0
    seen = record(monkeypatch)
    learn(config, team, episodes)
    second_epoch = [call for call in seen.policy if call.member == "agent_1"][1]
    for s in second_epoch.samples:
        turn = next(t for n, t in turns if n == "agent_1" and t.context_ids == s.context_ids)
        assert sum(s.token_data["old_logprob"]) == pytest.approx(turn.behaviour_logprob, abs=1e-9)


# -- 8: early termination -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [0.0, 0.5, 50.0])
def test_pitfall_08_non_negative_rewards_do_not_end_episodes(reward):
    """A default threshold at or below the rewards would make each of these episodes one turn long."""
    config = make_config()
    episodes = play(config, make_team(config), env(turns=3, letters="", base=reward, solved_above=float("inf")))
    assert [[tr.reward for tr in e.transitions] for e in episodes] == [[reward] * 3] * 2
    assert [[tr.truncated for tr in e.transitions] for e in episodes] == [[False, False, True]] * 2


def test_pitfall_08_the_built_in_task_goes_on_after_a_partial_reward():
    """StrBuild's default threshold lies above every score that leaves a cell to build: 8 of 9 cells earn 16/9 and do not solve it."""
    task, row = StrBuildTask(), {"string": "L"}
    built = make_env(task, 2, "full")
    built.reset(seed=0, options={"task": row})
    cells = sorted(row_layout(row, blank_unknown=False).cells)
    assert len(cells) == 9
    actions = {
        name: "\n".join(f"/setblock {x} {y} 0 {block}" for x, y in cells[:8] if (x + y) % 2 == parity)
        for parity, (name, block) in enumerate((("agent_0", "stone"), ("agent_1", "obsidian")))
    }
    for turn in range(4):
        _, rewards, terminations, truncations, _ = built.step(actions)
        assert rewards["agent_0"] == pytest.approx(16 / 9)
        assert not any(terminations.values())
        assert all(truncations.values()) == (turn == 3)


# -- 9: whose reward is it ----------------------------------------------------------------------------------------------


def test_pitfall_09_rewards_are_per_sample_where_n_equals_k(monkeypatch):
    """Read as per-sample, the two equal entries of a reward dict would make both samples' advantages 0."""
    config = make_config("magrpo", monte_carlo={"samples": 2}, algorithm={"discount": 1.0})
    team = make_team(config)
    episodes = play(config, team, env(turns=1), 3, TreeShape(2))
    seen = record(monkeypatch)
    learn(config, team, episodes)
    for name in ("agent_0", "agent_1"):
        found = {s.response_ids: s.data["advantage"] for s in seen.samples(name)}
        expected = {}
        for e in episodes:
            rewards = np.array([tr.reward for tr in e.transitions])
            assert len(rewards) == 2
            expected |= {tr.turns[name].response_ids: r - rewards.mean() for tr, r in zip(e.transitions, rewards, strict=True)}
        assert found == pytest.approx(expected, abs=1e-12)
        assert sum(abs(a) > 0.01 for a in found.values()) >= 4


class Unequal(LettersEnv):
    """Pays each agent on its own."""

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        return observations, {a: i + 1.0 for i, a in enumerate(rewards)}, terminations, truncations, infos


@pytest.mark.parametrize("tree", [TreeShape(), TreeShape(2)])
def test_pitfall_09_unequal_rewards_are_refused_and_not_cut_to_the_first(tree):
    """Keeping the first reward only would train everybody on agent 0's 1.0 without a word."""
    config = make_config("ma-reinforce")
    with pytest.raises(EnvContractError, match=r"episode e0, turn 0: rewards must be one shared number.*agent_0=1, agent_1=2"):
        play(config, make_team(config), Unequal, 1, tree)


# -- 10: joint modes and scale ------------------------------------------------------------------------------------------


def test_pitfall_10_crossed_joint_actions_are_grouped_by_the_agent_s_own_response(monkeypatch):
    """Grouped as if aligned, agent 1's return of sample k would be that of the k-th joint action, not the mean over agent 0's."""
    config = make_config("magrpo", monte_carlo={"joint_mode": "crossed"}, algorithm={"discount": 1.0})
    team = make_team(config)
    episodes = play(config, team, env(turns=1), 2, TreeShape(2, "crossed"))
    seen = record(monkeypatch)
    learn(config, team, episodes)
    spread = 0.0
    for i, name in enumerate(("agent_0", "agent_1")):
        found = {s.response_ids: (s.data["advantage"], s.weight) for s in seen.samples(name)}
        assert len(found) == len(seen.samples(name)) == 4, "two responses in each of two episodes"
        for e in episodes:
            reward = {tuple(tr.picks[a] for a in ("agent_0", "agent_1")): tr.reward for tr in e.transitions}
            assert sorted(reward) == [(0, 0), (0, 1), (1, 0), (1, 1)]
            own = [np.mean([r for pick, r in reward.items() if pick[i] == k]) for k in (0, 1)]
            responses = {tr.picks[name]: tr.turns[name].response_ids for tr in e.transitions}
            for k in (0, 1):
                advantage, weight = found[responses[k]]
                assert advantage == pytest.approx(own[k] - np.mean(own), abs=1e-12)
                assert weight == pytest.approx(1 / 2 / len(episodes))
            aligned = [reward[0, 0], reward[1, 1]]
            spread = max(spread, abs((own[0] - own[1]) - (aligned[0] - aligned[1])))
    assert spread > 0.01, "aligned and crossed returns agree by chance: nothing is tested"


def test_pitfall_10_crossed_trees_back_up_the_mean_of_each_child():
    """Two turns: a joint action's return adds the mean, not the sum, of its child's four."""
    config = make_config("ma-reinforce", monte_carlo={"joint_mode": "crossed"})
    (episode,) = play(config, make_team(config), env(turns=2), 1, TreeShape(2, "crossed"))
    assert len(episode.transitions) == 4 + 16
    credits = monte_carlo_credits(
        MAReinforce(), AlgorithmConfig(discount=0.5, advantage_normalization="off"), ["agent_1"], stored([episode])
    )
    root = [a for a, tr in enumerate(episode.transitions) if tr.parent is None]
    returns = {a: episode.transitions[a].reward + 0.5 * np.mean([tr.reward for tr in episode.transitions if tr.parent == a]) for a in root}
    for k in (0, 1):
        own = [a for a in root if episode.transitions[a].picks["agent_1"] == k]
        assert len(own) == 2
        assert credits.advantages["agent_1"]["e0", own[0]] == pytest.approx(np.mean([returns[a] for a in own]), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "samples", "mode", "episodes"),
    [(1, 2, "aligned", 1), (1, 4, "aligned", 1), (3, 2, "aligned", 3), (2, 3, "crossed", 1), (3, 2, "crossed", 2)],
)
def test_pitfall_10_the_scale_does_not_move_with_n_k_and_episodes(n, samples, mode, episodes, monkeypatch):
    """With sums for means the total weight of a turn's samples would be K, K^n or the number of episodes instead of 1."""
    config = make_config("ma-reinforce", n, monte_carlo={"samples": samples, "joint_mode": mode}, algorithm={"discount": 0.5})
    team = make_team(config)
    played = play(config, team, env(n=n, turns=2, letters="", base=1.0), episodes, TreeShape(samples, mode))
    seen = record(monkeypatch)
    learn(config, team, played)
    for i in range(n):
        mine = seen.samples(f"agent_{i}")
        assert len(mine) == episodes * (samples + samples * (samples**n if mode == "crossed" else samples))
        by_turn = {t: [s for s in mine if s.origin.endswith(f"turn {t}")] for t in (0, 1)}
        # Every reward is 1: the return is 1 + 0.5 at the first turn and 1 at the last.
        assert sum(s.weight for s in by_turn[0]) == pytest.approx(1.0)
        assert sum(s.weight * s.data["advantage"] for s in by_turn[0]) == pytest.approx(1.5)
        assert sum(s.weight * s.data["advantage"] for s in by_turn[1]) == pytest.approx(1.0)


def test_pitfall_10_the_group_s_baseline_is_a_mean_whatever_its_size():
    """A summed baseline would centre nothing: advantages of equal returns are 0 for any K."""
    for k in (2, 3, 8):
        np.testing.assert_allclose(MAGRPO().advantages(np.full(k, 3.0), None), 0.0, atol=1e-12)
        advantages = MAGRPO().advantages(np.arange(float(k)), None)
        assert advantages[-1] == pytest.approx((k - 1) / 2)


# -- 11: the critic's steps and tokens ----------------------------------------------------------------------------------


def test_pitfall_11_the_critic_takes_one_step_per_minibatch(monkeypatch):
    """Stepped once per agent it would take 12 steps here, on three copies of every joint state."""
    config = make_config(n=3, algorithm={"minibatch": 2, "epochs": 2})
    team = make_team(config)
    episodes = play(config, team, env(n=3, turns=2), 2)
    seen = record(monkeypatch)
    learn(config, team, episodes)
    steps = {name: seen.steps.count(name) for name in ("critic", "agent_0", "agent_1", "agent_2")}
    assert steps == dict.fromkeys(steps, 4)  # 2 epochs of 4 joint transitions in minibatches of 2
    assert team.critics["critic"].host.members["critic"].steps == 4
    assert [sum(len(i.positions) for i in inputs) for _, inputs in seen.values] == [2, 2, 2, 2]


def reversed_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as in the tests' tokenizer, numbered from the other end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")


def test_pitfall_11_the_critic_s_input_is_tokenized_with_its_own_tokenizer(monkeypatch):
    """Agent 0's ids would be other bytes to the critic: decoded with the critic's tokenizer they would be no prompt."""
    config = make_config()
    live = live_models(config)
    live["critic"] = LoadedModel(live["critic"].model, reversed_tokenizer())
    team = make_team(config, live)
    episodes = play(config, team, env(turns=2))
    seen = record(monkeypatch)
    learn(config, team, episodes)
    ((_, inputs),) = seen.values
    own, agents = live["critic"].tokenizer, byte_tokenizer()
    assert len(inputs) == 2
    for value_input in inputs:
        episode = next(e for e in episodes if f"episode {e.id} " in value_input.origin)
        first, last = episode.transitions
        text = seen_text({a: t.observation for a, t in first.turns.items()}, first.info.text) + said_text(first.turns)
        text += seen_text({a: t.observation for a, t in last.turns.items()}, last.info.text)
        assert list(value_input.ids) == own(text, add_special_tokens=False)["input_ids"]
        assert list(value_input.ids) != agents(text, add_special_tokens=False)["input_ids"]


# -- 12: the discount and the losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("method", ["collm-cc", "collm-dc"])
def test_pitfall_12_the_discount_is_in_the_td_target(method, discount, monkeypatch):
    """Unused, it would leave the target at r + V whatever it is."""
    config = make_config(method, algorithm={"discount": discount})
    team = make_team(config)
    (episode,) = play(config, team, env(turns=2), 1)
    values = {name: values_of(critic, episode) for name, critic in team.critics.items()}
    seen = record(monkeypatch)
    learn(config, team, [episode])
    first, last = (tr.reward for tr in episode.transitions)
    for name, v in values.items():
        assert abs(v[1]) > 0.01
        targets = [first + discount * v[1], last]
        assert list(seen.targets(name).values()) == pytest.approx(targets, abs=1e-9)
        agent = "agent_0" if method == "collm-cc" else name.removeprefix("critic_")
        advantages = {s.origin[-1]: s.data["advantage"] for s in seen.samples(agent)}
        assert advantages == pytest.approx({"0": targets[0] - v[0], "1": targets[1] - v[1]}, abs=1e-9)


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_pitfall_12_the_discount_is_in_the_monte_carlo_return_and_its_log(discount, tmp_path, monkeypatch):
    """Unused, it would leave the returns at r_0 + r_1, and the logged one would not be what was trained on."""
    config = make_config(
        "ma-reinforce", monte_carlo={"samples": 1}, algorithm={"discount": discount}, training={"updates": 1, "episodes_per_update": 2}
    )
    seen = record(monkeypatch)
    Trainer(config, tmp_path / "run", models=live_models(config), env=env(turns=2)).run()
    rewards = {row["id"]: [t["reward"] for t in row["turns"]] for row in log_rows(tmp_path / "run", "episodes.jsonl")}
    expected = {f"episode {e} turn 0": r[0] + discount * r[1] for e, r in rewards.items()} | {
        f"episode {e} turn 1": r[1] for e, r in rewards.items()
    }
    assert {s.origin: s.data["advantage"] for s in seen.samples("agent_1")} == pytest.approx(expected, abs=1e-12)
    (row,) = log_rows(tmp_path / "run", "metrics.jsonl")
    assert row["discounted_return_mean"] == pytest.approx(np.mean([r[0] + discount * r[1] for r in rewards.values()]), abs=1e-12)


def test_pitfall_12_loss_values_are_logged_for_every_member(tmp_path):
    """With V = 0 and rho = 1 at first the critic's loss is the mean of r^2 and the actors' minus the mean of r: both stand in the log."""
    config = make_config(training={"updates": 2, "episodes_per_update": 3})
    Trainer(config, tmp_path / "run", models=live_models(config), env=env(turns=2)).run()
    rewards = np.array([t["reward"] for row in log_rows(tmp_path / "run", "episodes.jsonl")[:3] for t in row["turns"]])
    first, second = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert first["loss/critic"] == pytest.approx((rewards**2).mean(), rel=1e-9)
    for name in ("agent_0", "agent_1"):
        assert first[f"loss/{name}"] == first[f"policy_loss/{name}"] == pytest.approx(-rewards.mean(), rel=1e-9)
        assert np.isfinite(second[f"loss/{name}"])
        assert second[f"loss/{name}"] != first[f"loss/{name}"]
    assert second["loss/critic"] != first["loss/critic"]


# -- 13: a loss that is not finite --------------------------------------------------------------------------------------


class Breaking(LettersEnv):
    """Pays `broken` once that is set on the class."""

    broken: float | None = None

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        return observations, dict.fromkeys(rewards, self.broken) if self.broken is not None else rewards, terminations, truncations, infos


class BreakAfter(Display):
    """Sets the environment's rewards and keeps the weights after a given update."""

    def __init__(self, update: int, reward: float, monkeypatch) -> None:
        self._update, self._reward, self._monkeypatch = update, reward, monkeypatch
        self.weights: dict[str, list[torch.Tensor]] = {}
        self.trainer: Trainer | None = None

    def update(self, row) -> None:
        if row["update"] == self._update:
            self._monkeypatch.setattr(Breaking, "broken", self._reward)
            self.weights = weights(self.trainer)


def weights(trainer: Trainer | None) -> dict[str, list[torch.Tensor]]:
    assert trainer is not None
    return {name: [p.detach().clone() for m in host.members.values() for p in m.parameters] for name, host in trainer.team.hosts.items()}


@pytest.mark.parametrize(
    ("method", "reward", "message"),
    [
        ("collm-cc", 1e200, r"^update 2: critic: the loss is not finite; from episode 000000[23] "),
        ("collm-dc", 1e200, r"^update 2: critic_agent_0: the loss is not finite; from episode 000000[23] "),
        ("ma-reinforce", 1e39, r"^update 2: agent_0: the loss is not finite; from episode 000000[23] turn 0"),
    ],
)
def test_pitfall_13_a_non_finite_loss_is_an_error_and_nothing_is_stepped(method, reward, message, tmp_path, monkeypatch):
    """Replaced by a constant or skipped, the run would end without a word, its weights stepped by the other members' gradients."""
    config = make_config(method, training={"updates": 3, "episodes_per_update": 2, "checkpoint_every": 50})
    monkeypatch.setattr(Breaking, "broken", None)
    display = BreakAfter(1, reward, monkeypatch)
    trainer = Trainer(config, tmp_path / "run", models=live_models(config, torch.float32), env=Breaking, display=display)
    display.trainer = trainer
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.run()
    after = weights(trainer)
    assert all(torch.equal(a, b) for name in after for a, b in zip(after[name], display.weights[name], strict=True))
    state = last_state(tmp_path / "run")
    assert state["folder"] == "update_000001"
    for name, host in trainer.team.hosts.items():
        saved = [w for m in host.members for w in state["hosts"][name][m]["weights"].values()]
        assert all(torch.equal(a, b) for a, b in zip(saved, after[name], strict=True))
    assert len(log_rows(tmp_path / "run", "metrics.jsonl")) == 1


# -- 14: special tokens and long prompts --------------------------------------------------------------------------------


def test_pitfall_14_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    """Added without a resize, the new ids would index past the embedding, on a GPU as a device-side assert."""
    loaded = small_model("qwen3")
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|tool|>"]})
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"its tokenizer has 261 tokens but the embedding 260 rows"):
        load_model(str(tmp_path), "causal", torch.float32)


@pytest.mark.parametrize("template", ["default", None])
def test_pitfall_14_no_token_is_added_behind_the_embedding_s_back(template):
    """The plain template, and padding for a tokenizer without it, must get along with the tokens there are."""
    config = make_config()
    live = live_models(config, **({} if template else {"chat_template": None}))
    for loaded in live.values():
        loaded.tokenizer.pad_token = None
    sizes = {name: len(loaded.tokenizer) for name, loaded in live.items()}
    team = make_team(config, live)
    for episode in play(config, team, env(turns=2)):
        for tr in episode.transitions:
            for name, turn in tr.turns.items():
                assert max(turn.context_ids + turn.response_ids) < embedding_rows(live[name].model)
    assert sizes == {name: len(loaded.tokenizer) for name, loaded in live.items()}


class Wordy(LettersEnv):
    """Its prompts grow by the turn; the instruction stands at the end."""

    def _observations(self):
        return {a: f"{self._turn}" + "x" * 20 * self._turn + f" so, {a}, do it!" for a in self.possible_agents}


def test_pitfall_14_an_over_long_prompt_is_an_error_and_not_cut():
    """Cut at its end, the second prompt would lose its instruction and the run would go on."""
    config = make_config(context_window=50, history="last")
    team = make_team(config)
    with pytest.raises(ContextOverflowError, match=r"^agent_0, episode e0: a prompt of 63 tokens does not fit into 44"):
        play(config, team, lambda: Wordy(turns=3), 1)


@pytest.mark.parametrize("history", ["full", "last"])
def test_pitfall_14_whole_turns_are_dropped_and_counted(history):
    """A prompt is in the context from its first token to its last; what goes are the oldest turns, and the record says how many."""
    config = make_config(context_window=90, history=history)
    team = make_team(config)
    (episode,) = play(config, team, lambda: Wordy(turns=3), 1)
    chat: ChatFormat = team.policies["agent_1"].chat
    turns = [tr.turns["agent_1"] for tr in episode.transitions]
    for t, turn in enumerate(turns):
        assert turn.context_ids[-1] == chat.first(turn.observation)[-1]
        whole = tuple(chat.tokenizer(turn.observation, add_special_tokens=False)["input_ids"])
        assert turn.context_ids[-1 - len(whole) : -1] == whole
        assert len(turn.context_ids) <= 90 - 6
        if history == "last":
            assert turn.context_ids == chat.first(turn.observation)
            assert turn.dropped_turns == 0
        else:
            kept = turns[turn.dropped_turns : t + 1]
            expected: tuple[int, ...] = ()
            for k, one in enumerate(kept):
                before = kept[k - 1].response_ids if k else ()
                expected += before + (chat.following(one.observation, before[-1]) if k else chat.first(one.observation))
            assert turn.context_ids == expected
    assert [turn.dropped_turns for turn in turns] == ([0, 0, 2] if history == "full" else [0, 0, 0])


# -- 15: the sampled tokens are the trained ones ------------------------------------------------------------------------


def test_pitfall_15_trained_tokens_are_the_sampled_ones(tmp_path, monkeypatch):
    """Decoded and re-encoded between turns, bytes that are no UTF-8 would come back as other tokens."""
    config = make_config(training={"updates": 1, "episodes_per_update": 3})
    live = live_models(config)
    seen = record(monkeypatch)
    Trainer(config, tmp_path / "run", models=live, env=env(turns=3)).run()
    changed = 0
    for name in ("agent_0", "agent_1"):
        samples = seen.samples(name)
        assert len(samples) == 9
        for s in samples:
            assert (name, s.context_ids, s.response_ids) in seen.sampled
        for e in range(3):
            turns = sorted((s for s in samples if s.origin.startswith(f"episode {e:07d} ")), key=lambda s: s.origin)
            for before, after in pairwise(turns):
                past = before.context_ids + before.response_ids
                assert after.context_ids[: len(past)] == past
        tokenizer = live[name].tokenizer
        for s in samples:
            text = tokenizer.decode(list(s.response_ids), skip_special_tokens=False)
            changed += tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) != s.response_ids
    assert changed >= 6, "re-encoding would have gone unnoticed"
