"""What a critic reads: the joint history (CoLLM-CC) or one agent's own (CoLLM-DC), then m_t.

The rendering is append-only, so that with `history: full` the input of V(h_t, m_t) is a prefix of the input of
V(h_{t+1}, m_{t+1}) and one pass over an episode's longest history gives every turn's value. Each piece is tokenised on
its own, with the critic's own tokenizer. With `history: last` h_t is the newest prompts, as it is for the agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from collm.errors import ContextOverflowError
from collm.models.sequences import ValueInput
from collm.models.text import text_ids
from collm.types import Episode, JointTransition


class CriticReader:
    """Renders episodes for one critic. `agents` are those whose histories it sees, in order."""

    def __init__(
        self,
        name: str,
        tokenizer: PreTrainedTokenizerBase,
        agents: Sequence[str],
        history: Literal["full", "last"],
        global_info: Literal["text", "features", "none"],
        context_window: int,
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._agents = list(agents)
        self._history = history
        self._global_info = global_info
        self._window = context_window
        self._bos = text_ids(tokenizer, str(tokenizer.bos_token)) if tokenizer.bos_token is not None else ()

    def read(self, episode: Episode, turns: Sequence[int]) -> tuple[list[ValueInput], list[list[int]]]:
        """Inputs that together have a value position for each of `turns` (ascending), and those turns per input.

        Turns whose histories start at the same place share one input. Past the context window the oldest whole turns
        are left out. Raises ContextOverflowError if one turn alone does not fit.
        """
        seen = [text_ids(self._tokenizer, self._observations(tr)) for tr in episode.transitions[: turns[-1] + 1]]
        done = [text_ids(self._tokenizer, self._responses(tr)) for tr in episode.transitions[: turns[-1] + 1]]
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
            if t in group:
                positions.append(len(ids) - 1)
            if t < group[-1]:
                ids += done[t]
        features = tuple(self._features(episode.transitions[t]) for t in group)
        dropped = start if self._history == "full" else 0
        return ValueInput(ids, tuple(positions), features, {}, f"episode {episode.id} turns {group}", dropped)

    def _first_turn(self, seen: list[tuple[int, ...]], done: list[tuple[int, ...]], turn: int, episode: Episode) -> int:
        length = len(self._bos) + len(seen[turn])
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

    def _observations(self, transition: JointTransition) -> str:
        parts = [f"[{agent} sees]\n{transition.turns[agent].observation}\n" for agent in self._agents]
        info = f"[info] {transition.info.text}\n" if self._global_info == "text" else ""
        return "".join(parts) + info

    def _responses(self, transition: JointTransition) -> str:
        return "".join(f"[{agent} says]\n{transition.turns[agent].text}\n" for agent in self._agents)

    def _features(self, transition: JointTransition) -> tuple[float, ...]:
        return tuple(float(x) for x in transition.info.features) if self._global_info == "features" else ()
