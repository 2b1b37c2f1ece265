"""Samples that begin alike, put into one tree of tokens, so that a pass reads what they share once.

The K responses of a node share its history, and so do all that follow from them: a rollout tree with K = 2 and H = 4 has a
quarter of the tokens of its 16 paths. Episodes on the same task row share their first prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from collm.models.sequences import MergedSequence, PolicySample, TreeLayout

LEAST_SHARED = 32
"""Tokens that contexts must have in common to be worth a branch."""
WORTH_IT = 0.75
"""Trees are used where they hold at most this share of the tokens of the sequences side by side."""


def share_prefixes(samples: Sequence[PolicySample], merged: Sequence[MergedSequence], token_budget: int) -> list[MergedSequence]:
    """The samples in trees of at most about `token_budget` tokens, or nothing where side by side (`merged`) they are as well off."""
    if len({samples[s.samples[0]].context_ids[:LEAST_SHARED] for s in merged}) == len(merged):
        return []
    trees: list[_Tree] = []
    open_trees: dict[tuple[int, ...], _Tree] = {}
    # In lexicographic order a sample follows its history's others, so that a tree that is full is cut where little is shared.
    for i in sorted(range(len(samples)), key=lambda i: (samples[i].context_ids, i)):
        context, response = samples[i].context_ids, samples[i].response_ids
        root = context[:LEAST_SHARED]
        tree = open_trees.get(root)
        if tree is None or tree.size + len(context) - tree.shared(context) + len(response) > token_budget:
            tree = open_trees[root] = _Tree()
            trees.append(tree)
        tree.add(i, context, response)
    if sum(tree.size for tree in trees) > WORTH_IT * sum(len(s.ids) for s in merged):
        return []
    return [tree.sequence() for tree in trees]


def join(trees: Sequence[MergedSequence]) -> MergedSequence:
    """Several trees as one sequence, a forest: what a pass with a tree layout takes."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    samples: list[int] = []
    lengths: list[int] = []
    parents: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    for tree in trees:
        layout = tree.tree
        if layout is None:
            raise ValueError("a sequence without a tree cannot be joined to trees")
        offset, first = len(ids), len(lengths)
        ids += tree.ids
        spans += [(start + offset, stop + offset) for start, stop in tree.spans]
        samples += tree.samples
        before += [column + offset for column in layout.before]
        positions += layout.positions
        lengths += layout.lengths
        parents += [parent + first if parent >= 0 else -1 for parent in layout.parents]
    return MergedSequence(tuple(ids), spans, samples, TreeLayout(tuple(lengths), tuple(parents), tuple(positions), tuple(before)))


@dataclass(slots=True)
class _Node:
    ids: tuple[int, ...]
    parent: int
    response: bool
    """A sample's response: it is never cut in two."""
    children: list[int] = field(default_factory=list)


class _Tree:
    """A trie whose nodes are pieces of contexts and whole responses."""

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._roots: list[int] = []
        self._samples: list[tuple[int, int, int]] = []
        """Index, node at which the context ends, node of the response."""
        self.size = 0

    def shared(self, context: tuple[int, ...]) -> int:
        """How many leading tokens of a context are here already."""
        return self._walk(context)[1]

    def add(self, index: int, context: tuple[int, ...], response: tuple[int, ...]) -> None:
        """Put a sample in."""
        node, place, cut = self._walk(context)
        if cut:
            node = self._cut(node, cut)
        if place < len(context):
            node = self._grow(node, context[place:], response=False)
        self._samples.append((index, node, self._grow(node, response, response=True)))

    def _walk(self, context: tuple[int, ...]) -> tuple[int, int, int]:
        """The last node that the context passes (-1: none), how many of its tokens lie up to there, and the tokens of that node
        after which it leaves it (0: at its end)."""
        node, place = -1, 0
        while place < len(context):
            step = None
            for child in self._nodes[node].children if node >= 0 else self._roots:
                ids = self._nodes[child].ids
                common = _common(ids, context[place : place + len(ids)])
                if common == len(ids):
                    step = (child, 0, common)
                    break
                if not self._nodes[child].response and common >= LEAST_SHARED:
                    step = (child, common, common)
            if step is None:
                break
            node, cut, common = step
            place += common
            if cut:
                return node, place, cut
        return node, place, 0

    def _grow(self, parent: int, ids: tuple[int, ...], response: bool) -> int:
        self._nodes.append(_Node(ids, parent, response))
        self._family(parent).append(len(self._nodes) - 1)
        self.size += len(ids)
        return len(self._nodes) - 1

    def _cut(self, node: int, length: int) -> int:
        """Cut a node in two; the lower part keeps its number, so that what ended there still does."""
        lower = self._nodes[node]
        self._nodes.append(_Node(lower.ids[:length], lower.parent, response=False, children=[node]))
        upper = len(self._nodes) - 1
        family = self._family(lower.parent)
        family[family.index(node)] = upper
        lower.ids, lower.parent = lower.ids[length:], upper
        return upper

    def _family(self, parent: int) -> list[int]:
        return self._nodes[parent].children if parent >= 0 else self._roots

    def sequence(self) -> MergedSequence:
        """The tree as one row of tokens. A node that is its parent's only child goes into its parent's segment."""
        ids: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        parents: list[int] = []
        start: dict[int, int] = {}
        segment: dict[int, int] = {-1: -1}
        depth: dict[int, int] = {-1: 0}
        waiting = self._roots[::-1]
        while waiting:
            n = waiting.pop()
            node = self._nodes[n]
            if node.parent >= 0 and len(self._nodes[node.parent].children) == 1:
                segment[n] = segment[node.parent]
                lengths[segment[n]] += len(node.ids)
            else:
                segment[n] = len(lengths)
                lengths.append(len(node.ids))
                parents.append(segment[node.parent])
            start[n] = len(ids)
            ids += node.ids
            positions += range(depth[node.parent], depth[node.parent] + len(node.ids))
            depth[n] = depth[node.parent] + len(node.ids)
            waiting += node.children[::-1]
        spans = [(start[r], start[r] + len(self._nodes[r].ids)) for _, _, r in self._samples]
        before = [start[c] + len(self._nodes[c].ids) - 1 for _, c, _ in self._samples]
        layout = TreeLayout(tuple(lengths), tuple(parents), tuple(positions), tuple(before))
        return MergedSequence(tuple(ids), spans, [i for i, _, _ in self._samples], layout)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading items two tuples share, by halving."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
