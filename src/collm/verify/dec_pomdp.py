"""A finite Dec-POMDP as tables, and its view as a text environment.

States, joint actions and observations are few enough for every trajectory to be written down. An agent's actions are the
texts it can write, its observations short strings over its own tokens.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from collm.models.seeds import derive_seed

EOS = "."
"""The closing token of every lab tokenizer, spelt out."""


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent's tokens, ids in order of `tokens`, and its longest response.

    `observations` are the strings it can be shown; one that contains EOS puts that id into its prompts.
    """

    tokens: str
    max_new_tokens: int
    observations: tuple[str, ...]
    temperature: float = 1.0
    pad_is_eos: bool = False

    @property
    def eos_id(self) -> int:
        return self.tokens.index(EOS)

    @property
    def letters(self) -> str:
        """The tokens that are text."""
        return self.tokens.replace(EOS, "")

    def texts(self) -> list[str]:
        """Everything it can answer: up to M letters (fewer are closed by EOS)."""
        return ["".join(word) for m in range(self.max_new_tokens + 1) for word in itertools.product(self.letters, repeat=m)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What chance makes of a joint action: probability, reward, whether the task ends, the next state and what each agent sees."""

    probability: float
    reward: float
    terminated: bool
    state: int
    observations: tuple[str, ...]


JointText = tuple[str, ...]


@dataclass(frozen=True)
class DecPomdp:
    """<I, S, A, O, T, R, H> and the discount. `steps` maps (state, joint action) to its outcomes, whose probabilities sum to 1."""

    name: str
    agents: tuple[AgentSpec, ...]
    horizon: int
    discount: float
    initial: tuple[Outcome, ...]
    steps: Mapping[tuple[int, JointText], tuple[Outcome, ...]]
    pays_last_turn_only: bool = False
    """Before the last turn a joint action leads to its first outcome, without a reward."""

    @property
    def names(self) -> list[str]:
        return [f"agent_{i}" for i in range(len(self.agents))]

    def outcomes(self, state: int, texts: JointText, turn: int) -> tuple[Outcome, ...]:
        """What can follow; on the last turn outcomes that differ only in what nobody sees any more are one."""
        found = self.steps[state, texts]
        if turn < self.horizon - 1:
            first = Outcome(1.0, 0.0, False, found[0].state, found[0].observations)
            return (first,) if self.pays_last_turn_only else found
        merged: dict[tuple[float, bool], float] = {}
        for o in found:
            merged[o.reward, o.terminated] = merged.get((o.reward, o.terminated), 0.0) + o.probability
        return tuple(Outcome(p, r, end, found[0].state, found[0].observations) for (r, end), p in merged.items())

    def info(self, turn: int, last_reward: float) -> str:
        """m_t as text: the turn, and the last turn's reward, as in the paper."""
        return f"turn {turn} of {self.horizon}, last {last_reward:+.3f}"


def draw_tables(
    name: str,
    seed: int,
    agents: Sequence[AgentSpec],
    horizon: int,
    *,
    states: int = 2,
    initial: int = 1,
    chance_every: int = 2,
    ends: Collection[int] = (),
    coin: float = 0.0,
    discount: float = 0.8,
) -> DecPomdp:
    """Random tables: rewards in [-1, 1], next states and observations drawn per outcome, so that observations are noisy and partial.

    `initial`: how many first states are possible. Of the joint actions, numbered, those in `ends` end the task, and of the others
    every `chance_every`-th (0 = none) has two outcomes. `coin` c replaces rewards: 0 before the last turn, then +-c(s, a) by an
    even coin that no action moves: what Prop. 4.2 assumes.
    """
    rng = np.random.default_rng(derive_seed("verify", name, seed))

    def shown() -> tuple[str, ...]:
        return tuple(str(rng.choice(list(a.observations))) for a in agents)

    def outcome(probability: float, reward: float, ends: bool = False) -> Outcome:
        return Outcome(probability, reward, ends, int(rng.integers(states)), shown())

    first = rng.dirichlet(np.full(initial, 4.0))
    starts = tuple(Outcome(float(first[s]), 0.0, False, s % states, shown()) for s in range(initial))
    steps: dict[tuple[int, JointText], tuple[Outcome, ...]] = {}
    for state in range(states):
        for j, texts in enumerate(itertools.product(*(a.texts() for a in agents))):
            # The states' rewards differ in size too: an agent that knows where it is does better.
            reward = round(float(rng.uniform(-1, 1)) * (1 + state), 3)
            if coin:
                size = round(coin * float(rng.uniform(0.5, 1.5)), 3)
                steps[state, texts] = (outcome(0.5, size), outcome(0.5, -size))
            elif j in ends:
                steps[state, texts] = (outcome(1.0, reward, ends=True),)
            elif chance_every and (j + 1) % chance_every == 0:
                p = round(float(rng.uniform(0.3, 0.7)), 3)
                steps[state, texts] = (outcome(p, reward), outcome(1 - p, reward))
            else:
                steps[state, texts] = (outcome(1.0, reward),)
    return DecPomdp(name, tuple(agents), horizon, discount, starts, steps, pays_last_turn_only=coin > 0)


class Chance(Protocol):
    """Where an environment's random choices come from."""

    def pick(self, probabilities: Sequence[float]) -> int: ...


class RandomChance:
    """A generator of its own; copies go on with equal streams until they are reseeded."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def pick(self, probabilities: Sequence[float]) -> int:
        return int(self._rng.choice(len(probabilities), p=np.asarray(probabilities) / sum(probabilities)))


class LabEnv:
    """The Dec-POMDP as a `collm.envs.base.TextEnv`. Without `chance` it draws from the seed it is reset with."""

    def __init__(self, problem: DecPomdp, chance: Chance | None = None) -> None:
        self.problem = problem
        self.possible_agents = problem.names
        self.agents: list[str] = []
        self._given = chance
        self._chance: Chance = chance or RandomChance(0)
        self._turn, self._state, self._last_reward = 0, 0, 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> LabEnv:
        twin = copy.copy(self)
        twin.agents = list(self.agents)
        # An oracle that enumerates is one for all copies; a generator is copied, as any environment's would be.
        twin._chance = self._given or copy.deepcopy(self._chance, memo)
        return twin

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        self.reseed(seed or 0)
        self.agents = list(self.possible_agents)
        start = self._choose(self.problem.initial)
        self._turn, self._state, self._last_reward = 0, start.state, 0.0
        return dict(zip(self.agents, start.observations, strict=True)), {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        texts = tuple(actions[a] for a in self.possible_agents)
        outcomes = self.problem.outcomes(self._state, texts, self._turn)
        outcome = self._choose(outcomes)
        self._turn, self._state, self._last_reward = self._turn + 1, outcome.state, outcome.reward
        agents = self.possible_agents
        truncated = not outcome.terminated and self._turn >= self.problem.horizon
        observations = dict(zip(agents, outcome.observations, strict=True))
        flags = dict.fromkeys(agents, outcome.terminated), dict.fromkeys(agents, truncated)
        return (
            observations,
            dict.fromkeys(agents, outcome.reward),
            *flags,
            {a: {"metrics": {"outcome": outcomes.index(outcome)}} for a in agents},
        )

    def state(self) -> dict[str, Any]:
        features = np.array([self._turn / self.problem.horizon, self._last_reward], dtype=np.float32)
        return {"text": self.problem.info(self._turn, self._last_reward), "features": features}

    def reseed(self, seed: int) -> None:
        if self._given is None:
            self._chance = RandomChance(seed)

    def close(self) -> None:
        pass

    def _choose(self, outcomes: Sequence[Outcome]) -> Outcome:
        return outcomes[self._chance.pick([o.probability for o in outcomes]) if len(outcomes) > 1 else 0]
