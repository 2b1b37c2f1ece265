"""What the tests of the pitfalls share: small teams, rollouts through production code, and a record of what hosts were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from builders import small_model
from run_tools import agent, toy_config

from collm.algorithms.losses import PolicyGradientLoss
from collm.algorithms.registry import has_critics, make_method
from collm.config.schema import Config
from collm.models.host import Host
from collm.models.host_batch import HostBatch
from collm.models.loading import LoadedModel
from collm.models.member import Metrics
from collm.models.optim import Progress
from collm.models.sequences import PolicySample, ValueInput
from collm.models.team import Team, build_team
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.training.buffer import Stored
from collm.training.learner import Learner
from collm.types import Episode

CPU = torch.device("cpu")
CHAIN = TreeShape()
ARCHITECTURES = ["gpt2", "qwen3", "llama"]


def make_config(method: str = "collm-cc", n: int = 2, agent_changes: dict[str, Any] | None = None, **sections: Any) -> Config:
    """A configuration for live models: advantages as they are, and a learning rate that moves small models."""
    plain = {"learning_rate": 0.01}
    agents = [agent("live", **{"optimizer": plain, **(agent_changes or {})})] * n
    sections["evaluation"] = {"every": 0, "sampled_episodes": 1, "bootstrap": 100}
    sections["algorithm"] = {"advantage_normalization": "off", **sections.pop("algorithm", {})}
    return toy_config(agents, sections.pop("critic", {}), method=method, **sections)


def live_models(config: Config, dtype: torch.dtype = torch.float64, **tokenizer: Any) -> dict[str, LoadedModel]:
    """A random model for every member: another architecture for each agent, qwen3 for critics."""
    method = make_method(config)
    names = [f"agent_{i}" for i in range(len(config.agents))]
    live = {name: small_model(ARCHITECTURES[i % 3], seed=i, dtype=dtype, **tokenizer) for i, name in enumerate(names)}
    critics = method.critics(names) if has_critics(method) and not config.critic.shared_backbone else {}
    return live | {name: small_model("qwen3", seed=10 + i, dtype=dtype, **tokenizer) for i, name in enumerate(critics)}


def make_team(config: Config, live: dict[str, LoadedModel] | None = None, features: int = 2) -> Team:
    """The team of a configuration; critics start with random heads, so that their values say something."""
    method = make_method(config)
    names = [f"agent_{i}" for i in range(len(config.agents))]
    team = build_team(config, names, method.critics(names) if has_critics(method) else {}, features, live or live_models(config))
    random_heads(team)
    return team


def random_heads(team: Team) -> None:
    """Give every critic a head that is not 0, so that values, and gradients into the backbone, say something."""
    for i, critic in enumerate(team.critics.values()):
        head = critic.host.members[critic.member].value_head
        assert head is not None
        with torch.no_grad():
            head.linear.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(20 + i))
            head.linear.bias.fill_(0.4)


def play(
    config: Config,
    team: Team,
    make_env: Callable[[], Any],
    episodes: int = 2,
    tree: TreeShape = CHAIN,
    **settings: Any,
) -> list[Episode]:
    """Episodes as the trainer would collect them."""
    plans = [EpisodePlan(f"e{k}", None, 100 + k) for k in range(episodes)]
    rollout = RolloutSettings(config.history, config.context_window, False, 0, 64, tree, **settings)
    with ThreadPoolExecutor(1) as executor:
        return collect(plans, make_env, team.policies, rollout, executor, lambda: None)[0]


def stored(episodes: Sequence[Episode]) -> list[Stored]:
    """Every joint transition of the episodes."""
    return [Stored(e, a) for e in episodes for a in range(len(e.transitions))]


def learn(config: Config, team: Team, episodes: Sequence[Episode]) -> dict[str, float]:
    """One update on the episodes; its metrics."""
    with ThreadPoolExecutor(1) as executor:
        learner = Learner(config, team, make_method(config), executor)
        learner.store(stored(episodes))
        return learner.update(Progress(0, 10))


@dataclass
class PolicyCall:
    """One `Host.accumulate_policy`: its samples, their log-probabilities just before, and the metrics it returned."""

    member: str
    samples: list[PolicySample]
    logprobs: list[float]
    metrics: Metrics


@dataclass
class Record:
    """What hosts were asked, in order."""

    policy: list[PolicyCall] = field(default_factory=list)
    values: list[tuple[str, list[ValueInput]]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    sampled: dict[tuple[str, tuple[int, ...], tuple[int, ...]], float] = field(default_factory=dict)
    """Log-probability at sampling by member, context and response."""

    def targets(self, critic: str) -> dict[str, float]:
        """Value targets by the input's origin and place in it, such as `episode e0 turns [0, 1] #1`."""
        return {
            f"{i.origin} #{p}": y for name, inputs in self.values if name == critic for i in inputs for p, y in enumerate(i.data["target"])
        }

    def samples(self, member: str) -> list[PolicySample]:
        """Every sample a policy was trained on."""
        return [s for call in self.policy if call.member == member for s in call.samples]


def record(monkeypatch) -> Record:
    """Write down from now on what every host is asked, and let it answer as ever."""
    found = Record()
    decode, policy, values, step = HostBatch.decode, Host.accumulate_policy, Host.learn_values, Host.step

    def spy_decode(self: HostBatch, steps: int | None = None):
        answers = decode(self, steps)
        for request, answer in answers:
            found.sampled[request.member, request.context_ids, answer.response_ids] = answer.logprob
        return answers

    def spy_policy(self: Host, member: str, samples: Sequence[PolicySample], loss) -> Metrics:
        before = [sum(row) for row in self.score(member, samples)]
        metrics = policy(self, member, samples, loss)
        found.policy.append(PolicyCall(member, list(samples), before, metrics))
        return metrics

    def spy_values(self: Host, member: str, inputs: Sequence[ValueInput], complete, loss):
        completed: dict[int, ValueInput] = {}

        def watched(i: int, known: list[float]) -> ValueInput:
            completed[i] = complete(i, known)
            return completed[i]

        answer = values(self, member, inputs, watched, loss)
        found.values.append((member, [completed[i] for i in range(len(inputs))]))
        return answer

    def spy_step(self: Host, member: str, *args) -> float:
        found.steps.append(member)
        return step(self, member, *args)

    monkeypatch.setattr(HostBatch, "decode", spy_decode)
    for name, spy in (("accumulate_policy", spy_policy), ("learn_values", spy_values), ("step", spy_step)):
        monkeypatch.setattr(Host, name, spy)
    return found


def training_sample(context: tuple[int, ...], response: tuple[int, ...], advantage: float = 1.0) -> PolicySample:
    """A fresh sample (rho = 1) as the learner would hand it to a host."""
    return PolicySample(context, response, {"advantage": advantage}, "here", {"old_logprob": (float("nan"),) * len(response)})


def gradients(host: Host, member: str, samples: Sequence[PolicySample]) -> tuple[Metrics, list[torch.Tensor]]:
    """Metrics and gradients of the plain policy loss, which are cleared again."""
    metrics = host.accumulate_policy(member, samples, PolicyGradientLoss())
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in host.members[member].parameters]
    host.discard_gradients()
    return metrics, found


@torch.no_grad()
def reference_logprobs(
    model, context: tuple[int, ...], response: tuple[int, ...], temperature: float = 1.0, top_p: float = 1.0
) -> list[float]:
    """log pi of each response token, one unpadded pass per token, the nucleus by a loop over the sorted tokens."""
    found = []
    for t, token in enumerate(response):
        probs = (model(input_ids=torch.tensor([context + response[:t]])).logits[0, -1] / temperature).softmax(-1)
        kept, mass = [], 0.0
        for v in sorted(range(len(probs)), key=lambda v: -float(probs[v])):
            if mass >= top_p:
                break
            kept.append(v)
            mass += float(probs[v])
        assert token in kept
        found.append(float((probs[token] / mass).log()))
    return found
