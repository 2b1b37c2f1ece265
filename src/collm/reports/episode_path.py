"""Which way through an episode is shown: of a chain there is one, of a rollout tree one from the root to a leaf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collm.errors import RunFolderError
from collm.types import Episode

LEAVES = ("best", "worst", "greedy")


@dataclass(frozen=True, slots=True)
class Sibling:
    """A joint action of a node that the path passes."""

    index: int
    reward: float
    to_go: float
    """Its reward and the mean return below it, undiscounted."""
    greedy: bool
    taken: bool
    picks: Mapping[str, int]
    """Which of its responses each agent plays."""


def path_return(episode: Episode, leaf: int) -> float:
    """Undiscounted sum of rewards from the first turn to `leaf`."""
    return sum(episode.transitions[a].reward for a in episode.path(leaf))


def is_tree(episode: Episode) -> bool:
    """More than one joint action at some node."""
    return any(len(actions) > 1 for actions in episode.children().values())


def choose_leaf(episode: Episode, wanted: str) -> int:
    """Index of the joint action that a path ends with: `best` and `worst` by its return (of equals the first), `greedy`, or an index.

    Raises RunFolderError for a leaf that the episode does not have.
    """
    leaves = episode.leaves()
    if wanted == "best":
        return max(leaves, key=lambda a: (path_return(episode, a), -a))
    if wanted == "worst":
        return min(leaves, key=lambda a: (path_return(episode, a), a))
    inner = {tr.node for tr in episode.transitions}
    ends = [a for a in range(len(episode.transitions)) if a not in inner]
    if wanted == "greedy":
        # Played greedily from the first turn on.
        found = [a for a in ends if all(episode.transitions[b].greedy for b in episode.path(a))]
        if not found:
            raise RunFolderError(
                f"option --leaf: episode {episode.id} has no path that is greedy from its first turn on; give best or worst"
            )
        return found[0]
    if wanted.isdecimal() and int(wanted) in ends:
        return int(wanted)
    known = ", ".join(map(str, ends[:12])) + (", ..." if len(ends) > 12 else "")
    raise RunFolderError(f"option --leaf: episode {episode.id} has no leaf {wanted!r}; give {', '.join(LEAVES)} or one of {known}")


def siblings(episode: Episode, index: int) -> list[Sibling]:
    """All joint actions of the node at which joint action `index` was played, itself included."""
    nodes = episode.children()

    def to_go(action: int) -> float:
        tr = episode.transitions[action]
        below = [a for a in nodes.get(action, []) if tr.greedy or not episode.transitions[a].greedy]
        return tr.reward + (sum(map(to_go, below)) / len(below) if below else 0.0)

    found = [(a, episode.transitions[a]) for a in nodes[episode.transitions[index].node]]
    return [Sibling(a, tr.reward, to_go(a), tr.greedy, a == index, tr.picks) for a, tr in found]


def advantages_of(episode: Episode, index: int) -> dict[str, float]:
    """Each agent's advantage for its response in joint action `index`; where crossed joint actions share a response, the one they share."""
    played = episode.transitions[index]
    found: dict[str, float] = {}
    for agent in played.turns if not played.greedy else ():
        for action in episode.children()[played.node]:
            tr = episode.transitions[action]
            if not tr.greedy and tr.pick(agent) == played.pick(agent) and agent in tr.advantages:
                found[agent] = tr.advantages[agent]
    return found
