"""What a critic reads: the joint history (CoLLM-CC) or one agent's own (CoLLM-DC), then m_t.

Joint histories say who sees and who says what. A critic of one agent reads no names, which would tell it nothing: each
observation as it is, each response after "> ".

The rendering is append-only, so that with `history: full` the input of V(h_t, m_t) is a prefix of the input of
V(h_{t+1}, m_{t+1}) and one pass over an episode's longest history gives every turn's value. Each piece is tokenised on
its own, with the critic's own tokenizer. With `history: last` h_t is the newest prompts, as it is for the agents.

A turn one past the last joint action is the one that stands upcoming: what is bootstrapped from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal

from transformers import PreTrainedTokenizerBase

from collm.errors import ContextOverflowError
from collm.models.sequences import ValueInput
from collm.models.text import text_ids
from collm.types import Episode, GlobalInfo, JointTransition


def info_at(episode: Episode, turn: int) -> GlobalInfo:
    """m_t of a played turn, or of the upcoming one."""
    if turn < len(episode.transitions):
        return episode.transitions[turn].info
    if episode.upcoming is None:
        raise ValueError(f"episode {episode.id} is over; it has no turn {turn}")
    return episode.upcoming.info


class CriticReader:
    """Renders episodes for one critic. `agents` are those whose histories it sees, in order.

    `kind` v reads up to the observations of a turn, q up to its responses.
    """

    def __init__(
        self,
        name: str,
        tokenizer: PreTrainedTokenizerBase,
        agents: Sequence[str],
        history: Literal["full", "last"],
        global_info: Literal["text", "features", "none"],
        kind: Literal["v", "q"],
        context_window: int,
    ) -> None:
        self._name = name
        # Episodes share pieces, and every pass reads an episode's anew.
        self._ids = lru_cache(maxsize=1 << 9)(partial(text_ids, tokenizer))
        self._agents = list(agents)
        named = len(self._agents) > 1
        self._sees = {agent: f"[{agent} sees]\n" if named else "" for agent in self._agents}
        self._says = {agent: f"[{agent} says]\n" if named else "> " for agent in self._agents}
        self._history = history
        self._global_info = global_info
        self._kind = kind
        self._window = context_window
        self._bos = text_ids(tokenizer, str(tokenizer.bos_token)) if tokenizer.bos_token is not None else ()

    def read(self, episode: Episode, turns: Sequence[int]) -> tuple[list[ValueInput], list[list[int]]]:
        """Inputs that together have a value position for each of `turns` (ascending), and those turns per input.

        Turns whose histories start at the same place share one input. Past the context window the oldest whole turns
        are left out. Raises ContextOverflowError if one turn alone does not fit.
        """
        seen = [self._ids(self._observations(episode, t)) for t in range(turns[-1] + 1)]
        done = [self._ids(self._responses(tr)) for tr in episode.transitions[: turns[-1] + 1]]
        starts = [self._first_turn(seen, done, t, episode) for t in turns]
        inputs: list[ValueInput] = []
        groups: list[list[int]] = []
        for start in sorted(set(starts)):
            group = [t for t, s in zip(turns, starts, strict=True) if s == start]
            inputs.append(self._input(episode, seen, done, start, group))
            groups.append(group)
        return inputs, groups

    def _input(
        self, episode: Episode, seen: list[tuple[int, ...]], done: list[tuple[int, ...]], start: int, group: list[int]
    ) -> ValueInput:
        ids: tuple[int, ...] = self._bos
        positions: list[int] = []
        for t in range(start, group[-1] + 1):
            ids += seen[t]
            if t in group and self._kind == "v":
                positions.append(len(ids) - 1)
            if t < group[-1] or self._kind == "q":
                ids += done[t]
            if t in group and self._kind == "q":
                positions.append(len(ids) - 1)
        features = tuple(self._features(info_at(episode, t)) for t in group)
        dropped = start if self._history == "full" else 0
        return ValueInput(ids, tuple(positions), features, {}, f"episode {episode.id} turns {group}", dropped_turns=dropped)

    def _first_turn(self, seen: list[tuple[int, ...]], done: list[tuple[int, ...]], turn: int, episode: Episode) -> int:
        length = len(self._bos) + len(seen[turn]) + (len(done[turn]) if self._kind == "q" else 0)
        if length > self._window:
            raise ContextOverflowError(
                f"{self._name}: turn {turn} of episode {episode.id} takes {length} tokens, "
                f"more than critic.context_window={self._window}; raise it"
            )
        if self._history == "last":
            return turn
        start = turn
        while start > 0 and length + len(seen[start - 1]) + len(done[start - 1]) <= self._window:
            start -= 1
            length += len(seen[start]) + len(done[start])
        return start

    def _observations(self, episode: Episode, turn: int) -> str:
        info = info_at(episode, turn)
        if turn < len(episode.transitions):
            seen = {agent: episode.transitions[turn].turns[agent].observation for agent in self._agents}
        else:
            seen = episode.upcoming.observations if episode.upcoming is not None else {}
        parts = [f"{self._sees[agent]}{seen[agent]}\n" for agent in self._agents]
        return "".join(parts) + (f"[info] {info.text}\n" if self._global_info == "text" else "")

    def _responses(self, transition: JointTransition) -> str:
        return "".join(f"{self._says[agent]}{transition.turns[agent].text}\n" for agent in self._agents)

    def _features(self, info: GlobalInfo) -> tuple[float, ...]:
        return tuple(float(x) for x in info.features) if self._global_info == "features" else ()


class OwnHistoryReader:
    """For a value head on an agent's own backbone: the agent's context as it was, V at its last token."""

    def __init__(self, agent: str, features: bool) -> None:
        self._agent = agent
        self._reads_features = features

    def read(self, episode: Episode, turns: Sequence[int]) -> tuple[list[ValueInput], list[list[int]]]:
        """One input per run of turns whose contexts continue one another, as `CriticReader.read`."""
        inputs: list[ValueInput] = []
        groups: list[list[int]] = []
        ids: tuple[int, ...] = ()
        for t in turns:
            context = self._context(episode, t)
            continues = bool(groups) and context[: len(ids)] == ids
            if continues:
                group, positions = [*groups.pop(), t], (*inputs.pop().positions, len(context) - 1)
            else:
                group, positions = [t], (len(context) - 1,)
            ids = context
            features = tuple(self.features(episode, g) for g in group)
            inputs.append(ValueInput(ids, positions, features, {}, f"episode {episode.id} turns {group}"))
            groups.append(group)
        return inputs, groups

    def features(self, episode: Episode, turn: int) -> tuple[float, ...]:
        """m_t as numbers, empty where the head reads none."""
        return tuple(float(x) for x in info_at(episode, turn).features) if self._reads_features else ()

    def _context(self, episode: Episode, turn: int) -> tuple[int, ...]:
        if turn < len(episode.transitions):
            return episode.transitions[turn].turns[self._agent].context_ids
        if episode.upcoming is None:
            raise ValueError(f"episode {episode.id} is over; it has no turn {turn}")
        return episode.upcoming.contexts[self._agent]
