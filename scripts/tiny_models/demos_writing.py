"""TLDR and arXiv dialogues of scripted noisy writers, with the prompts of the real environments.

A noisy writer acts sensibly (complete sentences of its role, with noun phrases copied from the source) but knows nothing of
the reward: how much it writes, how often it links sentences and whether it repeats itself vary widely and independently of
the other writer. A careful one writes as much as suits the other's role, links its sentences in different ways and prefers
the words that both roles use.

    PYTHONPATH=src:scripts python -m tiny_models.demos_writing

prints the rewards that such writers get.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.built_in import BuiltInTask
from collm.envs.writing.env import WritingEnv
from collm.envs.writing.lexicon import load_lexicon
from collm.envs.writing.measures import categories_found
from collm.envs.writing.rows import COLUMN, TaskName
from collm.envs.writing.split import MARKER
from collm.envs.writing.task import ARXIV, TLDR
from tiny_models.demos_writing_sources import Source, compose_abstract, compose_post, fill

Dialogue = list[tuple[str, str]]
"""(observation, response) per turn; a writing task has one."""

ALONE = 0.08
"""Share of episodes in which one agent writes both texts."""
REPEATS = 0.12
"""Chance of a noisy writer to say a sentence again."""


@dataclass(frozen=True)
class Habit:
    """How much a writer writes, in words, and how often it links a sentence."""

    words: tuple[int, int]
    careful_words: tuple[int, int]
    careful_categories: int
    """Fewest kinds of transition in a careful text."""


@dataclass(frozen=True)
class WritingTask:
    """What the two tasks differ in."""

    name: TaskName
    section: TldrTask | ArxivTask
    known: BuiltInTask
    compose: Callable[[random.Random], Source]
    habits: Mapping[str, Habit]
    """By role, in the order of the agents."""


TASKS: dict[TaskName, WritingTask] = {
    "tldr": WritingTask(
        "tldr",
        TldrTask(),
        TLDR,
        compose_post,
        {"concise": Habit((14, 50), (12, 17), 0), "detailed": Habit((8, 54), (34, 48), 4)},
    ),
    "arxiv": WritingTask(
        "arxiv",
        ArxivTask(),
        ARXIV,
        compose_abstract,
        {"background": Habit((98, 215), (132, 145), 7), "method": Habit((98, 215), (140, 165), 8)},
    ),
}


def tldr_demonstrations(rng: random.Random, episodes: int, careful: float = 0.0) -> list[Dialogue]:
    """Dialogues of every agent of `episodes` episodes on fresh posts; `careful` is the share of careful responses."""
    return _demonstrations(TASKS["tldr"], rng, episodes, careful)


def arxiv_demonstrations(rng: random.Random, episodes: int, careful: float = 0.0) -> list[Dialogue]:
    """The same on fresh abstracts."""
    return _demonstrations(TASKS["arxiv"], rng, episodes, careful)


def _demonstrations(task: WritingTask, rng: random.Random, episodes: int, careful: float) -> list[Dialogue]:
    return [dialogue for _ in range(episodes) for dialogue in play(task, rng, careful)[0]]


def play(task: WritingTask, rng: random.Random, careful: float) -> tuple[list[Dialogue], float]:
    """One episode: every agent's dialogue, and the reward."""
    source = fresh_source(task, rng)
    alone = rng.random() < ALONE
    env = WritingEnv(task.section, 1 if alone else 2)
    observations, _ = env.reset(seed=0, options={"task": {COLUMN[task.name]: source.text}})
    texts = [write(task.name, role, habit, source, rng, rng.random() < careful) for role, habit in task.habits.items()]
    responses = [f"{texts[0]}\n{MARKER}\n{texts[1]}"] if alone else texts
    actions = dict(zip(env.agents, responses, strict=True))
    dialogues = [[(observations[agent], action)] for agent, action in actions.items()]
    return dialogues, env.step(actions)[1]["agent_0"]


def fresh_source(task: WritingTask, rng: random.Random) -> Source:
    """A source that is none of the built-in test rows."""
    while True:
        source = task.compose(rng)
        if source.text not in _test_texts(task.name):
            return source


@cache
def _test_texts(name: TaskName) -> frozenset[str]:
    task = TASKS[name]
    start, _, stop = task.known.built_in_split.test.partition(":")
    return frozenset(row[COLUMN[name]] for row in task.known.rows(task.section)[int(start) : int(stop)])


def write(name: TaskName, role: str, habit: Habit, source: Source, rng: random.Random, careful: bool) -> str:
    """One text of a role."""
    if not careful:
        return _noisy(_phrases()[name][role], habit, source, rng)
    low, high = habit.careful_words
    candidates: list[str] = []
    while len(candidates) < 3:
        text = _linked(_phrases()[name][role], high, source, rng)
        if low <= len(text.split()) and len(_categories(text)) >= habit.careful_categories:
            candidates.append(text)
    return max(candidates, key=lambda text: len(set(text.split()) & _common_words(name)) / len(set(text.split())))


def _noisy(stock: Mapping[str, Sequence[str]], habit: Habit, source: Source, rng: random.Random) -> str:
    """Sentences until a length is reached that has nothing to do with the task; some linked, some said twice."""
    target, linking = rng.uniform(*habit.words), rng.random() ** 2
    sentences = [fill(rng.choice(stock["opening"]), source.slots)]
    pools = {kind: rng.sample(stock.get(kind, []), len(stock.get(kind, []))) for kind in ("plain", "linked")}
    while _words(sentences) < target and any(pools.values()):
        if rng.random() < REPEATS:
            sentences.append(sentences[-1])
            continue
        kind = "linked" if rng.random() < linking else "plain"
        pool = pools[kind] or pools["linked" if kind == "plain" else "plain"]
        sentences.append(fill(pool.pop(), source.slots))
    if stock.get("closing") and rng.random() < 0.5:
        sentences.append(fill(rng.choice(stock["closing"]), source.slots))
    return " ".join(sentences)


def _linked(stock: Mapping[str, Sequence[str]], most_words: int, source: Source, rng: random.Random) -> str:
    """Different sentences, linked where the role has linked ones, as many as fit."""
    middle = [*stock.get("linked", stock["plain"])]
    middle += rng.sample(stock["plain"], 2) if "linked" in stock else []
    chosen = [rng.choice(stock["opening"]), *rng.sample(middle, len(middle))]
    last = [fill(rng.choice(stock["closing"]), source.slots)] if "closing" in stock else []
    sentences: list[str] = []
    for sentence in chosen:
        filled = fill(sentence, source.slots)
        if _words([*sentences, filled, *last]) <= most_words:
            sentences.append(filled)
    return " ".join([*sentences, *last])


def _words(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _categories(text: str) -> tuple[str, ...]:
    return categories_found(text, "", load_lexicon(None), "words", "both")


@cache
def _phrases() -> Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]:
    return yaml.safe_load((Path(__file__).parent / "writing_phrases.yaml").read_text(encoding="utf-8"))


@cache
def _common_words(name: TaskName) -> frozenset[str]:
    """Words (and slots) that both roles use."""
    roles = [{word for part in role.values() for sentence in part for word in sentence.split()} for role in _phrases()[name].values()]
    return frozenset(roles[0] & roles[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, task in TASKS.items():
        for careful in (0.0, 0.1, 1.0):
            rng = random.Random(args.seed)
            rewards = sorted(play(task, rng, careful)[1] for _ in range(args.episodes))
            deciles = " ".join(f"{rewards[len(rewards) * i // 10]:.2f}" for i in range(1, 10))
            print(f"{name} careful {careful:.1f}: mean {statistics.fmean(rewards):.2f} of 3, deciles {deciles}")


if __name__ == "__main__":
    main()
