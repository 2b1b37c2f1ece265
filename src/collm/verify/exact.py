"""The objective and its gradient, exactly: plain passes token by token, sums over trajectories, autograd. No production code.

A trajectory is weighted by the product of its responses' probabilities and of chance's. Shapes: `_R` trajectories,
`_H` turns, `_N` agents, `_Y` distinct (agent, context, response) triples, `_D` one agent's weights, flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from collm.verify.dec_pomdp import AgentSpec, DecPomdp
from collm.verify.tiny_teams import Cast

Ids = tuple[int, ...]
Triple = tuple[int, Ids, Ids]
"""(agent, context, response)."""
TurnWeight = Literal["paper", "discounted"]


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: m_t, what each agent saw and had in its context, what it answered, and the reward."""

    info: str
    observations: tuple[str, ...]
    contexts: tuple[Ids, ...]
    responses: tuple[Ids, ...]
    texts: tuple[str, ...]
    outcome: int
    """Which of the joint action's outcomes chance picked."""
    reward: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """`chance`: the probability of the environment's part. `terminated`: the task ended, rather than its turns."""

    start: int
    """Which of the initial outcomes it began with."""
    chance: float
    steps: tuple[Step, ...]
    terminated: bool


def response_ids(spec: AgentSpec, text: str) -> Ids:
    """A response as sampled: closed by EOS unless it is as long as it may be."""
    ids = tuple(spec.tokens.index(c) for c in text)
    return ids if len(ids) == spec.max_new_tokens else (*ids, spec.eos_id)


def trajectories(problem: DecPomdp, history: Literal["full", "last"]) -> list[Trajectory]:
    """Every trajectory of the Dec-POMDP, straight from its tables."""
    found: list[Trajectory] = []

    def play(
        start: int, chance: float, steps: tuple[Step, ...], state: int, pasts: tuple[Ids, ...], seen: tuple[str, ...], last: float
    ) -> None:
        turn = len(steps)
        contexts = tuple(
            (past if history == "full" else ()) + tuple(a.tokens.index(c) for c in o)
            for a, past, o in zip(problem.agents, pasts, seen, strict=True)
        )
        for texts in (key[1] for key in problem.steps if key[0] == state):
            responses = tuple(response_ids(a, x) for a, x in zip(problem.agents, texts, strict=True))
            for k, o in enumerate(problem.outcomes(state, texts, turn)):
                step = Step(problem.info(turn, last), seen, contexts, responses, texts, k, o.reward)
                so_far = (start, chance * o.probability, (*steps, step))
                if o.terminated or turn + 1 == problem.horizon:
                    found.append(Trajectory(*so_far, o.terminated))
                else:
                    after = tuple(c + r for c, r in zip(contexts, responses, strict=True))
                    play(*so_far, o.state, after, o.observations, o.reward)

    for start, first in enumerate(problem.initial):
        play(start, first.probability, (), first.state, ((),) * len(problem.agents), first.observations, 0.0)
    return found


class Exact:
    """A cast's trajectories with the log-probability of every response in them under the present weights."""

    def __init__(self, cast: Cast, history: Literal["full", "last"] = "full") -> None:
        self.cast = cast
        self.problem = cast.problem
        self.trajectories = trajectories(cast.problem, history)
        self.n_agents, self.horizon = len(cast.problem.agents), cast.problem.horizon
        self.index: dict[Triple, int] = {}
        shape = (len(self.trajectories), self.horizon)
        self.triple_RHN = np.full((*shape, self.n_agents), -1)
        self.reward_RH = np.zeros(shape)
        self.alive_RH = np.zeros(shape, dtype=bool)
        for r, trajectory in enumerate(self.trajectories):
            for t, step in enumerate(trajectory.steps):
                self.reward_RH[r, t], self.alive_RH[r, t] = step.reward, True
                for i, pair in enumerate(zip(step.contexts, step.responses, strict=True)):
                    self.triple_RHN[r, t, i] = self.index.setdefault((i, *pair), len(self.index))
        self.chance_R = np.array([trajectory.chance for trajectory in self.trajectories])
        self._next_token: dict[tuple[int, Ids], Tensor] = {}
        self.logprob_Y = torch.stack([self._logprob(*triple) for triple in self.index])
        self.agent_Y = np.array([i for i, _, _ in self.index])

    def _logprob(self, agent: int, context: Ids, response: Ids) -> Tensor:
        """log pi_i(a|h), with its graph: the sum over all tokens of the response, EOS included."""
        return self._tokens(agent, context, response).sum()

    def _tokens(self, agent: int, context: Ids, response: Ids) -> Tensor:
        return torch.stack([self._token(agent, context + response[:m])[token] for m, token in enumerate(response)])

    def _token(self, agent: int, ids: Ids) -> Tensor:
        """log pi(. | ids) over the next token, (V,)."""
        if (agent, ids) not in self._next_token:
            logits_V = self.cast.model(agent)(input_ids=torch.tensor([ids])).logits[0, -1]
            self._next_token[agent, ids] = (logits_V / self.problem.agents[agent].temperature).log_softmax(-1)
        return self._next_token[agent, ids]

    # -- numbers ---------------------------------------------------------------------------------------------------

    @property
    def probability_R(self) -> np.ndarray:
        """Of every trajectory; they sum to 1."""
        logprob_Y = self.logprob_Y.detach().numpy()
        return self.chance_R * np.exp(np.where(self.triple_RHN >= 0, logprob_Y[self.triple_RHN], 0.0).sum((1, 2)))

    @property
    def return_RH(self) -> np.ndarray:
        """G_t = sum_{s >= t} gamma^(s-t) r_s."""
        G_RH = self.reward_RH.copy()
        for t in range(self.horizon - 2, -1, -1):
            G_RH[:, t] += self.problem.discount * G_RH[:, t + 1]
        return G_RH

    def token_logprobs(self) -> list[Tensor]:
        """Of every triple the log-probability of each token of its response, (T,), with their graph."""
        return [self._tokens(*triple) for triple in self.index]

    # -- gradients -------------------------------------------------------------------------------------------------

    def turn_coefficients(self, at_Y: Tensor | None = None) -> np.ndarray:
        """dJ / d log pi of every triple through turn t alone, (H, Y), for J = E[ sum_t gamma^t r_t ], by autograd through J itself.

        `at_Y` evaluates it at other log-probabilities than the present weights'.
        """
        leaf_HY = (self.logprob_Y if at_Y is None else at_Y).detach().expand(self.horizon, -1).clone().requires_grad_()
        index_RHN = torch.from_numpy(self.triple_RHN)
        by_turn = [leaf_HY[t][index_RHN[:, t].clamp(min=0)] * (index_RHN[:, t] >= 0) for t in range(self.horizon)]
        logprob_R = torch.stack(by_turn).sum((0, 2))
        discounts_H = self.problem.discount ** np.arange(self.horizon)
        J = (torch.from_numpy(self.chance_R) * logprob_R.exp() * torch.from_numpy(self.reward_RH @ discounts_H)).sum()
        (grad_HY,) = torch.autograd.grad(J, leaf_HY)
        return grad_HY.numpy()

    def coefficients(self, turn_weight: TurnWeight, turns: Sequence[int] | None = None, at_Y: Tensor | None = None) -> np.ndarray:
        """What each grad log pi counts in the true gradient, (Y,).

        discounted: grad J. paper: E[ sum_t grad log pi(a_t|h_t) Q(h_t, a_t) ], the same without gamma^t (Eq. 1, 2, 4).
        """
        part_HY = self.turn_coefficients(at_Y)
        if turn_weight == "paper":
            part_HY = part_HY / self.problem.discount ** np.arange(self.horizon)[:, None]
        return part_HY[list(turns) if turns is not None else slice(None)].sum(0)

    def score_coefficients(self, advantage_RHN: np.ndarray, discount: float = 1.0) -> np.ndarray:
        """What each grad log pi counts in E[ sum_t discount^t grad log pi_i(a_t|h_t) A_{i,t} ], (Y,): what an estimator must expect."""
        weight_RHN = (self.probability_R[:, None] * discount ** np.arange(self.horizon))[:, :, None] * advantage_RHN
        found_Y = np.zeros(len(self.index))
        np.add.at(found_Y, self.triple_RHN[self.triple_RHN >= 0], weight_RHN[self.triple_RHN >= 0])
        return found_Y

    def gradient(self, coefficient_Y: np.ndarray) -> list[np.ndarray]:
        """sum_y c_y grad log pi_y, per agent (D,)."""
        return [self._backward(i, torch.from_numpy(np.where(self.agent_Y == i, coefficient_Y, 0.0))) for i in range(self.n_agents)]

    def autograd(self, objective: Tensor) -> list[np.ndarray]:
        """The gradient of any scalar made from these log-probabilities, per agent (D,)."""
        found: list[np.ndarray] = []
        for i in range(self.n_agents):
            parameters = self.cast.parameters(i)
            found.append(flat(torch.autograd.grad(objective, parameters, retain_graph=True, allow_unused=True), parameters))
        return found

    def scores(self) -> np.ndarray:
        """grad log pi of every triple, over all agents' weights side by side, (Y, D_1 + ... + D_N)."""
        rows = [np.concatenate(self.gradient(unit_Y)) for unit_Y in np.eye(len(self.index))]
        return np.stack(rows)

    def _backward(self, agent: int, coefficient_Y: Tensor) -> np.ndarray:
        parameters = self.cast.parameters(agent)
        grads = torch.autograd.grad(self.logprob_Y, parameters, coefficient_Y, retain_graph=True, allow_unused=True)
        return flat(grads, parameters)


def flat(grads: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> np.ndarray:
    """Gradients as one vector (D,), zero where there is none."""
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]
    return torch.cat([part.detach().reshape(-1) for part in parts]).numpy()
