"""An episode as a person reads it: what each agent read and wrote, turn by turn, what it earned and what the critics thought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from collm.reports.build import read_build
from collm.reports.build_view import block_letters, build_view
from collm.reports.code_view import program_view, read_program
from collm.reports.episode_log import Logged, Said
from collm.reports.episode_path import Sibling, advantages_of, is_tree, path_return, siblings
from collm.reports.episode_text import abridged, long_fields, plain_value, row_text, visible, wrapped
from collm.types import Episode, JointTransition, StopReason, Turn

BAR = "│ "
COLUMN_GAP = 3
LABEL_WIDTH = 11
INDENT = 2
MOST_SIBLINGS = 9

Field = tuple[str, RenderableType]
"""A label and what stands behind it."""


class EpisodeView:
    """Renders episodes for a console, `width` columns wide; with `full` nothing is abridged."""

    def __init__(self, console: Console, width: int, *, full: bool = False) -> None:
        self._console = console
        self._width = width
        self._full = full

    def render(self, logged: Logged, leaf: int, where: str) -> Group:
        """The path from the first turn to joint action `leaf`; `where` says which log it is from."""
        episode = logged.episode
        heading = Text.assemble((f"episode {visible(episode.id)}", "bold"), f"  {where}", no_wrap=True, overflow="ignore")
        path = episode.path(leaf)
        builds = [build for a in path if (build := read_build(episode.transitions[a].details)) is not None]
        letters = block_letters(block for build in builds for block in build.kinds)
        turns = [self._turn(logged, index, letters) for index in path]
        return Group(heading, self._fields(self._summary(episode, leaf)), *turns)

    # -- heading -------------------------------------------------------------------------------------------------------

    def _summary(self, episode: Episode, leaf: int) -> list[Field]:
        rewards = [episode.transitions[a].reward for a in episode.path(leaf)]
        total = f"{path_return(episode, leaf):.3f}"
        if len(rewards) > 1:
            total += f" = {' + '.join(f'{r:.3f}' for r in rewards)}".replace("+ -", "- ")
        last = episode.transitions[leaf]
        place = f"after turn {last.turn + 1}"
        ended = f"{place}, by the task (solved, or past mending)" if last.terminated else f"{place}, by the turn limit"
        long = long_fields(episode.task)
        hint = f"; {', '.join(long)} with --full" if long and not self._full else ""
        told = {"task": (row_text(episode.task) or "none") + hint, "return": total, "ended": ended}
        if is_tree(episode):
            told["tree"] = _tree_text(episode, leaf)
        if self._full:
            told |= long
        return [(label, self._text(text)) for label, text in told.items()]

    # -- a turn --------------------------------------------------------------------------------------------------------

    def _turn(self, logged: Logged, index: int, letters: Mapping[str, str]) -> Group:
        episode, tr = logged.episode, logged.episode.transitions[index]
        said = self._talk(logged.phases[index]) if index in logged.phases else self._dialogue(tr)
        title = Text(f"turn {tr.turn + 1}{' (greedy baseline)' if tr.greedy else ''}   reward {tr.reward:.3f}", style="bold")
        head = Rule(title, align="left", style="dim", characters="─")
        return Group("", head, *said, "", self._fields(self._numbers(episode, index)), *self._details(tr.details, letters))

    def _dialogue(self, tr: JointTransition) -> list[RenderableType]:
        """What was read, once where all agents read the same, and what was written."""
        texts = {turn.observation for turn in tr.turns.values()}
        if len(texts) == 1 and len(tr.turns) > 1:
            read = [(f"{', '.join(map(visible, tr.turns))} read", texts.pop(), False)]
        else:
            read = [(f"{visible(name)} reads", turn.observation, False) for name, turn in tr.turns.items()]
        written = [(f"{visible(name)} writes {_how(turn)}", turn.text, True) for name, turn in tr.turns.items()]
        return [*self._texts(read), *self._texts(written)]

    def _talk(self, phases: Sequence[Mapping[str, Said]]) -> list[RenderableType]:
        """What was told and written within a turn; an agent's last answer is what the environment got."""
        shown: list[RenderableType] = []
        for number, phase in enumerate(phases, 1):
            shown += ["", Text(f"exchange {number} of {len(phases)}", style="dim")]
            shown += self._texts([(f"{visible(name)} reads", said.message, False) for name, said in phase.items()])
            shown += self._texts([(f"{visible(name)} writes", said.text, True) for name, said in phase.items()])
        return shown

    def _texts(self, texts: Sequence[tuple[str, str, bool]]) -> list[RenderableType]:
        """Titled texts, side by side where no line of any would have to be broken, else one under the other."""
        column = (self._width - COLUMN_GAP * (len(texts) - 1)) // len(texts)
        longest = max(max(map(len, [title, *visible(text).split("\n")])) for title, text, _ in texts)
        if len(texts) > 1 and longest + len(BAR) <= column:
            grid = Table.grid(padding=(0, COLUMN_GAP, 0, 0))
            for _ in texts:
                grid.add_column(width=column)
            grid.add_row(*(self._quoted(*text, column) for text in texts))
            return ["", grid]
        return [part for text in texts for part in ("", self._quoted(*text, self._width))]

    def _quoted(self, title: str, text: str, whole: bool, width: int) -> Group:
        lines = wrapped(text, width - len(BAR), self._console)
        shown = lines if whole or self._full else abridged(lines)
        return Group(Text(title, style="cyan"), *(Text.assemble((BAR, "dim"), line) for line in shown))

    def _numbers(self, episode: Episode, index: int) -> list[Field]:
        tr = episode.transitions[index]
        fields: list[Field] = [("m_t", self._text(tr.info.text))] if tr.info.text else []
        if tr.values:
            fields.append(("value", self._listed(_named(tr.values))))
        advantages = advantages_of(episode, index)
        if advantages:
            fields.append(("advantage", self._listed(_advantages(advantages))))
        if tr.metrics:
            fields.append(("metrics", self._listed(_named(tr.metrics))))
        node = siblings(episode, index)
        if len(node) > 1:
            fields.append(("branches", self._branches(node)))
        return fields

    def _branches(self, node: Sequence[Sibling]) -> Table:
        """The joint actions of a node, the one that is shown marked."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_row(*(Text(title, style="dim") for title in ("joint action", "reward", "return to go", "")))
        crossed = any(len(set(sibling.picks.values())) > 1 for sibling in node)
        kept = [s for i, s in enumerate(node) if self._full or len(node) <= MOST_SIBLINGS or s.taken or i < MOST_SIBLINGS - 1]
        for s in kept:
            picks = ", ".join(f"{visible(name)}'s response {k}" for name, k in s.picks.items()) if crossed and s.picks else ""
            notes = ", ".join(note for note in ("shown" if s.taken else "", "greedy" if s.greedy else "", picks) if note)
            table.add_row(str(s.index), f"{s.reward:.3f}", f"{s.to_go:.3f}", notes, style="bold" if s.taken else "")
        if len(kept) < len(node):
            table.add_row(Text(f"... {len(node)} in all"), "", "", Text("--full shows them"), style="dim italic")
        return table

    def _details(self, details: Mapping[str, Any], letters: Mapping[str, str]) -> list[RenderableType]:
        shown: list[RenderableType] = []
        known: set[str] = set()
        inner = self._width - INDENT
        build, judged = read_build(details), read_program(details)
        if build is not None:
            known |= {"blocks", "target"}
            shown += ["", Text("build", style="cyan"), Padding(build_view(build, letters, inner), (0, 0, 0, INDENT))]
        if judged is not None:
            known |= {"program", "tests"}
            shown += ["", Text("program", style="cyan"), program_view(judged, self._width, self._console)]
        rest = {key: value for key, value in details.items() if key not in known}
        if rest:
            shown += ["", Text("details", style="cyan")]
            shown.append(self._fields([(key, self._text(plain_value(value), abridge=True)) for key, value in rest.items()]))
        return shown

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _fields(self, fields: Sequence[Field]) -> Table:
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(min_width=LABEL_WIDTH - 1, style="dim", overflow="fold")
        table.add_column(overflow="fold")
        for label, content in fields:
            table.add_row(visible(label), content)
        return table

    def _text(self, text: str, abridge: bool = False) -> Group:
        lines = wrapped(text, self._width - LABEL_WIDTH, self._console)
        return Group(*(abridged(lines) if abridge and not self._full else lines))

    def _listed(self, items: Sequence[str]) -> Group:
        """Items one after the other, lines broken between them."""
        lines = [""]
        for i, item in enumerate(items):
            told = item if i == len(items) - 1 else f"{item}, "
            if lines[-1] and len(lines[-1]) + len(told) > self._width - LABEL_WIDTH:
                lines.append("")
            lines[-1] += told
        return self._text("\n".join(line.rstrip() for line in lines))


def _how(turn: Turn) -> str:
    """How a response came about, in brackets."""
    parts = [f"{len(turn.response_ids)} tokens", f"log pi {turn.behaviour_logprob:.2f}"]
    if turn.stop is StopReason.LENGTH:
        parts.append("cut at the token limit")
    if turn.dropped_turns:
        parts.append(f"{turn.dropped_turns} oldest turns out of its context")
    return f"({', '.join(parts)})"


def _named(numbers: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.3f}" for name, value in numbers.items()]


def _advantages(advantages: Mapping[str, float]) -> list[str]:
    values = list(advantages.values())
    if len(values) > 1 and len(set(values)) == 1:
        return [f"{values[0]:+.3f} for every agent"]
    return [f"{name} {value:+.3f}" for name, value in advantages.items()]


def _tree_text(episode: Episode, leaf: int) -> str:
    returns = [path_return(episode, a) for a in episode.leaves()]
    leaves = f"{len(returns)} leaves with returns {min(returns):.3f} to {max(returns):.3f}" if len(returns) > 1 else "one leaf"
    mean = f"mean return over the tree {episode.discounted_return(1.0):.3f}"
    return f"{len(episode.transitions)} joint actions, {leaves}, {mean}; shown: the path to joint action {leaf}"
