"""The laboratory's problems, and a bench that keeps what was computed on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from collm.rollout.branch import TreeShape
from collm.verify.dec_pomdp import AgentSpec, DecPomdp, draw_tables
from collm.verify.enumerate import Weighted, enumerate_episodes
from collm.verify.exact import Exact
from collm.verify.tiny_teams import Cast, make_cast

# Two tokens, one of them EOS with id 0 = pad = the filler of padded batches; one observation has EOS inside.
YES_NO = AgentSpec(".a", 1, ("a", "aa", "a.a"), pad_is_eos=True)
WARM = AgentSpec("b.", 1, ("b", "bb"), temperature=0.7)
STUTTER = AgentSpec(".c", 2, ("c", "cc", "c.c"), temperature=1.3, pad_is_eos=True)
LETTERS = AgentSpec("d.e", 1, ("d", "e", "de"))
WORDS = AgentSpec("fg.", 2, ("f", "gf", "g.f"), temperature=0.8)
LONG = AgentSpec("h.", 3, ("h", "hh"))
FOUR = AgentSpec("ij.k", 1, ("i", "kj", "k"))

PROBLEMS: dict[str, Callable[[], DecPomdp]] = {
    # Rollout trees of two turns, by one agent and by two; chance decides what one joint action leads to, some end the task.
    "solo": lambda: draw_tables("solo", 1, [YES_NO], 2, chance_every=2),
    "pair": lambda: draw_tables("pair", 0, [YES_NO, WARM], 2, chance_every=4, ends=(0, 1, 2)),
    "cross": lambda: draw_tables("cross", 3, [YES_NO, WARM], 2, chance_every=0, ends=(0, 1, 2)),
    # One turn, many responses of up to three tokens.
    "words": lambda: draw_tables("words", 0, [STUTTER, LETTERS], 1, chance_every=4),
    "trio": lambda: draw_tables("trio", 0, [YES_NO, LETTERS, FOUR], 1, chance_every=0),
    "talk": lambda: draw_tables("talk", 0, [WORDS, LONG], 1, initial=2, chance_every=5),
    "mono": lambda: draw_tables("mono", 0, [WORDS], 1, initial=2, chance_every=2),
    # Chains of three turns; nobody sees the state.
    "alone": lambda: draw_tables("alone", 0, [YES_NO], 3, initial=2, chance_every=2),
    "long": lambda: draw_tables("long", 2, [STUTTER, WARM], 3, states=3, chance_every=3, ends=(3,)),
    "blind": lambda: draw_tables("blind", 4, [YES_NO, WARM], 3, states=3, initial=2, chance_every=2),
    # No early end and rewards that are even coins: what Prop. 4.2 and 4.3 assume.
    "coin-1-3": lambda: draw_tables("coin-1-3", 0, [YES_NO], 3, coin=1.0),
    "coin-2-2": lambda: draw_tables("coin-2-2", 0, [YES_NO, WARM], 2, coin=1.0),
    "calls-2": lambda: draw_tables("calls-2", 0, [YES_NO, WARM], 3, chance_every=0),
    "calls-3": lambda: draw_tables("calls-3", 0, [YES_NO, WARM, LETTERS], 2, chance_every=0),
}


class Bench:
    """Models, exact sums and enumerated episodes by problem, each made once."""

    def __init__(self) -> None:
        self._casts: dict[str, Cast] = {}
        self._exact: dict[tuple[str, str], Exact] = {}
        self._episodes: dict[tuple[str, TreeShape, str, bool], list[Weighted]] = {}

    def cast(self, problem: str) -> Cast:
        if problem not in self._casts:
            self._casts[problem] = self.fresh_cast(problem)
        return self._casts[problem]

    def fresh_cast(self, problem: str) -> Cast:
        """Models of one's own, to be moved."""
        return make_cast(PROBLEMS[problem]())

    def exact(self, problem: str, history: Literal["full", "last"] = "full") -> Exact:
        if (problem, history) not in self._exact:
            self._exact[problem, history] = Exact(self.cast(problem), history)
        return self._exact[problem, history]

    def episodes(self, problem: str, shape: TreeShape, history: Literal["full", "last"] = "full", couple: bool = False) -> list[Weighted]:
        key = (problem, shape, history, couple)
        if key not in self._episodes:
            self._episodes[key] = enumerate_episodes(self.cast(problem), shape, history, couple=couple)
        return self._episodes[key]
