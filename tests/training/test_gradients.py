"""The gradients of one update equal a plain reference computed token by token, one sequence at a time, in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from builders import small_model

from collm.algorithms.registry import make_method
from collm.config.schema import AgentConfig, AlgorithmConfig, Config, CriticConfig, TrainingConfig
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.team import build_team
from collm.training.buffer import Stored
from collm.training.learner import Learner
from collm.types import Episode, GlobalInfo, JointTransition, StopReason, Turn

AGENTS = ["agent_0", "agent_1"]
DISCOUNT = 0.9


def responses(kind: str, eos: int) -> list[list[tuple[int, ...]]]:
    """Per episode, per turn: a response of the kind under test. Ids are bytes of the tests' tokenizer."""
    closed = [[(70, 71, 72, eos), (80, eos)], [(64, 65, 66, 67, 68, 69, eos)], [(90, 91, eos), (92, 93, 94, 95, eos)]]
    if kind == "no_eos":
        return [[turn[:-1] for turn in episode] for episode in closed]
    if kind == "one_token":
        return [[(eos,) for _ in episode] for episode in closed]
    return closed


def make_episodes(kind: str, history: str, eos: int) -> list[Episode]:
    """Two-agent episodes with ragged lengths; agent_1's responses are agent_0's shifted by one id and one token longer."""
    rng = np.random.default_rng(3)
    episodes: list[Episode] = []
    for e, per_turn in enumerate(responses(kind, eos)):
        context: dict[str, tuple[int, ...]] = dict.fromkeys(AGENTS, ())
        transitions: list[JointTransition] = []
        for t, response in enumerate(per_turn):
            turns: dict[str, Turn] = {}
            for i, agent in enumerate(AGENTS):
                prompt = tuple(int(x) for x in rng.integers(32, 120, size=4 + 3 * e + i))
                if kind == "eos_in_prompt":
                    prompt = (*prompt[:2], eos, *prompt[2:])
                own = response if i == 0 else (100, *response)
                ids = context[agent] + prompt if history == "full" else prompt
                turns[agent] = Turn(f"see {e}{t}{i}", ids, own, f"do {e}{t}{i}", StopReason.EOS, 0.0, 1.0, 0)
                context[agent] = ids + own
            last = t == len(per_turn) - 1
            info = GlobalInfo(f"turn {t}", np.array([t / 2, 0.25 * e], dtype=np.float32))
            transitions.append(JointTransition(t, turns, info, float(rng.normal()), last, False, {}, parent=t - 1 if t else None))
        episodes.append(Episode(f"e{e}", None, e, 0, transitions))
    return episodes


def naive_token_logprob(model, ids: tuple[int, ...], token: int, temperature: float, top_p: float) -> torch.Tensor:
    """log pi(token | ids): one sequence, its last logits, the nucleus by a loop over the sorted tokens."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, -1] / temperature
    probs = logits.softmax(-1)
    kept, mass = [], 0.0
    for v in sorted(range(len(probs)), key=lambda v: (-float(probs[v]), v)):
        if mass >= top_p:
            break
        kept.append(v)
        mass += float(probs[v])
    if token not in kept:
        kept.append(token)
    return logits[token] - logits[torch.tensor(kept)].logsumexp(0)


def naive_logprob(model, turn: Turn, temperature: float, top_p: float) -> torch.Tensor:
    ids, total = turn.context_ids, torch.zeros((), dtype=torch.float64)
    for token in turn.response_ids:
        total = total + naive_token_logprob(model, ids, token, temperature, top_p)
        ids = (*ids, token)
    return total


def naive_values(loaded, head, episode: Episode, agents: list[str], history: str, global_info: str) -> list[torch.Tensor]:
    """V(h_t, m_t) of every turn, each from its own pass over text rendered here once more."""

    def ids(text: str) -> list[int]:
        return loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    values, named = [], len(agents) > 1
    for t in range(len(episode.transitions)):
        tokens: list[int] = []
        for s in range(t + 1):
            tr = episode.transitions[s]
            seen = "".join((f"[{a} sees]\n" if named else "") + f"{tr.turns[a].observation}\n" for a in agents)
            seen += f"[info] {tr.info.text}\n" if global_info == "text" else ""
            if history == "full" or s == t:
                tokens += ids(seen)
            if s < t and history == "full":
                tokens += ids("".join((f"[{a} says]\n" if named else "> ") + f"{tr.turns[a].text}\n" for a in agents))
        hidden = loaded.model.base_model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
        if global_info == "features":
            hidden = torch.cat([hidden, torch.tensor(episode.transitions[t].info.features, dtype=torch.float64)])
        values.append((head.linear.weight[0] * hidden).sum() + head.linear.bias[0])
    return values


def setup(method, history, global_info, temperature, top_p, budget, pad_is_eos, padding_side):
    agents = [AgentConfig(model="x", temperature=temperature, top_p=top_p)] * 2
    config = Config(
        method=method,
        history=history,
        agents=agents,
        critic=CriticConfig(model="x", global_info=global_info),
        algorithm=AlgorithmConfig(discount=DISCOUNT, advantage_normalization="batch"),
        training=TrainingConfig(micro_batch_tokens=budget),
    )
    critics = make_method(config).critics(AGENTS)
    names = [*AGENTS, *critics]
    options = {"dtype": torch.float64, "pad_is_eos": pad_is_eos, "padding_side": padding_side}
    live = {n: small_model(["qwen3", "llama", "gpt2", "qwen3"][i], seed=i, **options) for i, n in enumerate(names)}
    team = build_team(config, AGENTS, critics, 2, live)
    with torch.no_grad():  # a head at zero would send no gradient into the backbone
        for c in team.critics.values():
            c.host.members[c.name].value_head.linear.weight.normal_(generator=torch.Generator().manual_seed(7))
    return config, team, live


def production_gradients(config: Config, team, episodes, monkeypatch) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}

    def keep(self: Host, member: str, at: Progress) -> float:
        by_id = {id(p): n for n, p in self.loaded.model.named_parameters()}
        m = self.members[member]
        found[member] = {by_id.get(id(p), "head"): p.grad.clone() for p in m.parameters if p.grad is not None and p.ndim == 2}
        m.optimizer.zero_grad(set_to_none=True)
        return 0.0

    monkeypatch.setattr(Host, "step", keep)
    with ThreadPoolExecutor(2) as executor:
        learner = Learner(config, team, make_method(config), executor)
        learner.store([Stored(e, t) for e in episodes for t in range(len(e.transitions))])
        metrics = learner.update(Progress(0, 10))
    for agent in AGENTS:
        assert metrics[f"ratio/{agent}"] == 1.0
        assert metrics[f"max_ratio/{agent}"] == 1.0
    return found


def reference_gradients(config: Config, team, live, episodes) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    deltas: dict[str, list[float]] = {}
    count = len(episodes)  # E[ sum_t . ]: a mean over episodes of the sum over turns
    for name, critic in team.critics.items():
        head = critic.host.members[name].value_head
        loss = torch.zeros((), dtype=torch.float64)
        deltas[name] = []
        for e in episodes:
            values = naive_values(live[name], head, e, list(critic.agents), config.history, config.critic.global_info)
            for t, tr in enumerate(e.transitions):
                bootstrap = float(values[t + 1].detach()) if t + 1 < len(values) else 0.0
                target = tr.reward + DISCOUNT * bootstrap
                loss = loss + (target - values[t]) ** 2 / count
                deltas[name].append(target - float(values[t].detach()))
        found[name] = _grads(loss, live[name].model, head)
    for i, agent in enumerate(AGENTS):
        delta = np.array(deltas["critic" if config.method == "collm-cc" else f"critic_{agent}"])
        advantage = (delta - delta.mean()) / delta.std(ddof=1)
        section = config.agents[i]
        turns = [tr.turns[agent] for e in episodes for tr in e.transitions]
        logprobs = [naive_logprob(live[agent].model, turn, section.temperature, section.top_p) for turn in turns]
        loss = -sum(a * lp for a, lp in zip(advantage, logprobs, strict=True)) / count
        found[agent] = _grads(loss, live[agent].model, None)
    return found


def _grads(loss: torch.Tensor, model, head) -> dict[str, torch.Tensor]:
    named = {n: p for n, p in model.named_parameters() if p.ndim == 2}
    if head is not None:
        named["head"] = head.linear.weight
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: g for n, g in zip(named, grads, strict=True) if g is not None}


CASES = [
    # response kind, method, history, m_t, temperature, top-p, pad == EOS, padding side, token budget of a micro-batch
    ("ragged", "collm-cc", "full", "text", 1.0, 1.0, False, "right", 10**6),
    ("ragged", "collm-cc", "full", "features", 0.6, 0.6, True, "left", 10**6),
    ("ragged", "collm-dc", "full", "text", 0.6, 0.6, False, "left", 40),
    ("ragged", "collm-dc", "last", "features", 1.0, 1.0, True, "right", 1),
    ("eos_in_prompt", "collm-cc", "full", "none", 1.0, 0.6, True, "left", 60),
    ("eos_in_prompt", "collm-cc", "last", "text", 0.6, 1.0, False, "right", 10**6),
    ("no_eos", "collm-cc", "full", "text", 0.6, 0.6, True, "right", 10**6),
    ("no_eos", "collm-dc", "full", "none", 1.0, 1.0, False, "left", 30),
    ("one_token", "collm-cc", "full", "text", 0.6, 0.6, True, "left", 10**6),
    ("one_token", "collm-dc", "last", "features", 1.0, 1.0, False, "right", 50),
]


@pytest.mark.parametrize(("kind", "method", "history", "info", "temperature", "top_p", "pad_is_eos", "side", "budget"), CASES)
def test_actor_and_critic_gradients_equal_the_reference(
    kind, method, history, info, temperature, top_p, pad_is_eos, side, budget, monkeypatch
):
    config, team, live = setup(method, history, info, temperature, top_p, budget, pad_is_eos, side)
    eos = live["agent_0"].tokenizer.eos_token_id
    episodes = make_episodes(kind, history, eos)
    expected = reference_gradients(config, team, live, episodes)
    actual = production_gradients(config, team, episodes, monkeypatch)
    assert set(actual) == set(expected)
    for member, grads in expected.items():
        assert set(actual[member]) == set(grads)
        for name, grad in grads.items():
            scale = float(grad.abs().max())
            assert scale > 0, f"{member} {name}: the reference gradient is zero, nothing is tested"
            error = float((actual[member][name] - grad).abs().max())
            assert error <= 1e-9 * max(1.0, scale), f"{member} {name}: off by {error} at scale {scale}"


def test_micro_batches_change_nothing(monkeypatch):
    grads = []
    for budget in (1, 45, 10**6):
        config, team, live = setup("collm-cc", "full", "text", 0.8, 0.9, budget, False, "right")
        episodes = make_episodes("ragged", "full", live["agent_0"].tokenizer.eos_token_id)
        grads.append(production_gradients(config, team, episodes, monkeypatch))
    for other in grads[1:]:
        for member, named in grads[0].items():
            for name, grad in named.items():
                torch.testing.assert_close(other[member][name], grad, rtol=1e-9, atol=1e-11)
