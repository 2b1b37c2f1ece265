"""A log of episodes (`episodes.jsonl`, `eval_episodes.jsonl`): what is in it, and one episode of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from collm.errors import RunFolderError
from collm.rollout.describe import restore
from collm.types import Episode, TaskRow

LOG, EVAL_LOG = "episodes.jsonl", "eval_episodes.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    id: str
    group: int
    """Of training the update in whose rollout it was played, from 1 as in metrics.jsonl; of `collm eval` the row of eval.jsonl, from 0."""
    team_return: float
    """Undiscounted sum of its rewards; of a tree the mean over its samples at every node."""
    turns: int
    """Turns of its longest path."""
    joint_actions: int
    solved: bool
    """A path of it ended before the turn limit."""
    task: TaskRow | None
    line: int
    offset: int
    """Where its line begins in the file, in bytes."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer within a turn of a protocol: what the agent was told, and what it wrote."""

    message: str
    text: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of the log."""

    episode: Episode
    protocol: str | None
    """Of an evaluation how the agents spoke; None in training."""
    phases: Mapping[int, Sequence[Mapping[str, Said]]] = field(default_factory=dict)
    """What was said within a turn, by joint action, where agents heard one another."""


class EpisodeLog:
    """The episodes of one log, oldest first. Holds what a list needs; `read` fetches an episode from the file."""

    def __init__(self, path: Path, entries: Sequence[Entry], group: int | None = None) -> None:
        self.path = path
        self.entries = list(entries)
        self.kind = "evaluation" if path.name == EVAL_LOG else "update"
        """What `Entry.group` counts."""
        self._group = group

    @classmethod
    def open(cls, run_dir: Path, log: str = LOG) -> EpisodeLog:
        """Raises RunFolderError where the run has no such log, none in it, or a line that is no episode."""
        path = run_dir / log
        if not path.is_file():
            if log == EVAL_LOG:
                raise RunFolderError(f"{path} does not exist; `collm eval {run_dir}` writes it")
            evaluated = f"; {run_dir / EVAL_LOG} does: add --eval" if (run_dir / EVAL_LOG).is_file() else "; a run's first update writes it"
            raise RunFolderError(f"{path} does not exist{evaluated}")
        entries: list[Entry] = []
        offset = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break  # a run is writing this one just now
                entries.append(_entry(*_parse(line, path, number), number, offset))
                offset += len(line)
        if not entries:
            raise RunFolderError(f"{path} holds no episode: logging.episodes_per_update is 0, or the run has made no update yet")
        return cls(path, entries)

    def of(self, group: int) -> EpisodeLog:
        """The episodes of one update, or of one evaluation. Raises RunFolderError where there is none."""
        chosen = [entry for entry in self.entries if entry.group == group]
        if not chosen:
            known = sorted({entry.group for entry in self.entries})
            near = min(known, key=lambda u: abs(u - group))
            span = f"{self.kind} {known[0]}" if len(known) == 1 else f"{self.kind}s {known[0]} to {known[-1]}, nearest {near}"
            raise RunFolderError(f"{self.path} has no episode of {self.kind} {group}; it has {span}")
        return EpisodeLog(self.path, chosen, group)

    def newest(self) -> EpisodeLog:
        """The episodes of the last update or evaluation."""
        return self.of(self.entries[-1].group)

    def find(self, wanted: str) -> Entry:
        """The episode of an id, leading zeros or not; of several the newest. Raises RunFolderError that names the nearest ids."""
        for entry in reversed(self.entries):
            if entry.id == wanted or (wanted.isdecimal() and entry.id.isdecimal() and int(entry.id) == int(wanted)):
                return entry
        place = f"{self.path} has no episode {wanted}" + (f" in {self.kind} {self._group}" if self._group is not None else "")
        near, ids = self._nearest(wanted), [e.id for e in self.entries]
        mend = f"nearest: {', '.join(near)}" if near else f"its ids go from {min(ids)} to {max(ids)}"
        raise RunFolderError(f"{place}; {mend}")

    def best(self) -> Entry:
        """The highest return; of equals the newest."""
        return max(self.entries, key=lambda e: (e.team_return, e.line))

    def worst(self) -> Entry:
        """The lowest return; of equals the newest."""
        return min(self.entries, key=lambda e: (e.team_return, -e.line))

    def read(self, entry: Entry) -> Logged:
        """The whole episode."""
        with self.path.open("rb") as f:
            f.seek(entry.offset)
            row, episode = _parse(f.readline(), self.path, entry.line)
        phases = {
            index: [{agent: Said(said["message"], said["text"]) for agent, said in phase.items()} for phase in action["phases"]]
            for index, action in enumerate(row["turns"])
            if "phases" in action
        }
        return Logged(episode, row.get("protocol"), phases)

    def _nearest(self, wanted: str) -> list[str]:
        ids = list(dict.fromkeys(e.id for e in self.entries))
        numbers = [i for i in ids if i.isdecimal()]
        if wanted.isdecimal() and numbers:
            return sorted(sorted(numbers, key=lambda i: abs(int(i) - int(wanted)))[:3])
        return get_close_matches(wanted, ids, n=3)


def _entry(row: Mapping[str, Any], episode: Episode, line: int, offset: int) -> Entry:
    sampled = [tr for tr in episode.transitions if not tr.greedy]
    return Entry(
        id=episode.id,
        group=row["evaluation"] if "evaluation" in row else episode.update + 1,
        team_return=episode.discounted_return(1.0),
        turns=max(tr.turn for tr in sampled) + 1,
        joint_actions=len(episode.transitions),
        solved=any(tr.terminated for tr in sampled),
        task=episode.task,
        line=line,
        offset=offset,
    )


def _parse(line: bytes, path: Path, number: int) -> tuple[Mapping[str, Any], Episode]:
    place = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RunFolderError(f"{place}: not JSON ({error}); take the line out, or restore the file") from error
    try:
        episode = restore(row)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise RunFolderError(f"{place}: not an episode as this version of collm writes them ({what})") from error
    if not episode.transitions:
        raise RunFolderError(f"{place}: an episode without turns")
    return row, episode
