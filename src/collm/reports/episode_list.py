"""The episodes of a log at a glance: the newest, the best and the worst."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from collm.reports.episode_log import Entry, EpisodeLog
from collm.reports.episode_text import row_text, visible

SHOWN = 5
"""Episodes of each kind."""
TASK_WIDTH = 48


def episode_list(log: EpisodeLog) -> Group:
    """Tables of the newest, best and worst episodes; one table where there are few."""
    entries = log.entries
    groups = sorted({e.group for e in entries})
    span = f"{log.kind} {groups[0]}" if len(groups) == 1 else f"{log.kind}s {groups[0]} to {groups[-1]}"
    mean = sum(e.team_return for e in entries) / len(entries)
    title = Text(f"{log.path}: {len(entries)} episodes of {span}, mean return {mean:.3f}", no_wrap=True, overflow="ignore")
    parts: list[RenderableType] = [title]
    by_return = sorted(entries, key=lambda e: (e.team_return, e.line))
    if len(entries) <= 3 * SHOWN:
        parts += ["", _table(log, "all, newest first", entries[::-1])]
    else:
        parts += ["", _table(log, "newest", entries[: -SHOWN - 1 : -1]), "", _table(log, "best", by_return[: -SHOWN - 1 : -1])]
        parts += ["", _table(log, "worst", sorted(entries, key=lambda e: (e.team_return, -e.line))[:SHOWN])]
    return Group(*parts)


def _table(log: EpisodeLog, title: str, entries: Sequence[Entry]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("id", "left"), (log.kind, "right"), ("return", "right"), ("turns", "right"), ("ended", "left")):
        table.add_column(name, justify=justify, no_wrap=True, min_width=len("by the task") if name == "ended" else None)  # type: ignore[arg-type]
    # The one place where a text is cut short: the episode itself shows the whole row.
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=TASK_WIDTH)
    for entry in entries:
        tree = f" (tree of {entry.joint_actions})" if entry.joint_actions > entry.turns else ""
        ended = "by the task" if entry.solved else "turn limit"
        cells = (str(entry.group), f"{entry.team_return:.3f}", f"{entry.turns}{tree}", ended)
        task = visible(row_text(entry.task)).replace("\n", " ") or "none"
        table.add_row(Text(visible(entry.id)), *cells, Text(task))
    return table
