"""Settings of the writing tasks, TLDR and arXiv (tasks.md section 1)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, model_validator

from collm.config.contradiction import Contradiction
from collm.config.tasks.base import TaskSection, one_per_agent

MOST_AGENTS = 2
"""The reward compares two texts, c1 and c2."""

_WINDOW = "low, full from, full to, high (ends included; two numbers = no upper end)"


def _least_tokens(default: int) -> Any:
    return Field(default=default, ge=0, description="level 1: fewest whitespace-separated tokens of each text")


def _vocabulary_window(*default: float) -> Any:
    about = f"level 3: unique words of text 2 / text 1: {_WINDOW}"
    return Field(default=list(default), examples=["[0.5, 0.7, 1.3, 1.7]"], description=about)


def _transition_rate(default: float) -> Any:
    return Field(default=default, ge=0, description="rate of transition_curve: log")


def _overlap_full(default: float) -> Any:
    return Field(default=default, gt=0, le=1, description="level 4: J, the Jaccard index of content words, from which the overlap is full")


class WritingSection(TaskSection):
    """What both writing tasks have. H = 1."""

    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    lexicon: str | None = Field(
        default=None, description="a .json file of stopwords and transition phrases by category; null = the project's own"
    )
    roles: list[str] | None = Field(
        default=None, description="instructions per agent, put before the source text; null = the task's own (for one or two agents)"
    )
    min_tokens: int
    max_tokens: int = Field(default=256, ge=1, description="level 1: most whitespace-separated tokens of each text")
    structure_reward: float = Field(default=0.5, ge=0, description="level 1: reward where both texts are within these bounds")
    length_window: list[float] | None = Field(
        default=None,
        examples=["[1.1, 1.6, 3.2, 5.0]"],
        description=f"level 2: characters of text 2 / text 1: {_WINDOW}; null = the profile's",
    )
    length_reward: float = Field(default=1.0, ge=0, description="level 2: its full reward")
    unique_words: Literal["content", "all"] | None = Field(
        default=None, description="level 3: count unique words without stopwords or with them; null = the profile's"
    )
    vocabulary_window: list[float]
    vocabulary_reward: float = Field(default=0.5, ge=0, description="level 3: its full reward")
    transition_weight: float = Field(default=0.4, ge=0, description="level 4: weight of T, the transition score in [0, 1]")
    transition_curve: Literal["log", "steps"] | None = Field(
        default=None, description="T of k categories: min(rate ln(k + 1), 1), or first + step (k - 1) up to 1; null = the profile's"
    )
    transition_rate: float
    transition_first: float = Field(default=0.4, ge=0, description="first of transition_curve: steps")
    transition_step: float = Field(default=0.05, ge=0, description="step of transition_curve: steps")
    transition_match: Literal["words", "substring"] | None = Field(
        default=None, description="find phrases at word boundaries, or anywhere; null = the profile's"
    )
    transition_texts: Literal["both", "second", "glued"] | None = Field(
        default=None, description="search each text, the second only, or both glued without a space; null = the profile's"
    )
    overlap_weight: float = Field(default=0.6, ge=0, description="level 4: weight of the overlap, min(J, full) / full")
    overlap_full: float

    @model_validator(mode="after")
    def _bounds_in_order(self) -> WritingSection:
        if self.max_tokens < self.min_tokens:
            raise Contradiction(
                f"max_tokens={self.max_tokens} is below min_tokens={self.min_tokens}: no text could pass", "max_tokens", "min_tokens"
            )
        for key, window in (("length_window", self.length_window), ("vocabulary_window", self.vocabulary_window)):
            if window is not None:
                _check_window(key, window)
        return self

    def check_agents(self, n_agents: int) -> None:
        if self.env is not None:
            return
        if n_agents > MOST_AGENTS:
            raise Contradiction(
                f"a writing task scores two texts, so it takes one or two agents, not {n_agents}; list at most {MOST_AGENTS}", "agents"
            )
        one_per_agent("roles", "roles", None if self.roles is None else len(self.roles), n_agents)


def _check_window(key: str, window: list[float]) -> None:
    if len(window) not in (2, 4):
        raise Contradiction(f"{key} has {len(window)} numbers; give low, full from, full to, high, or only the first two", key)
    if any(after < before for before, after in pairwise(window)):
        raise Contradiction(f"{key}={window} goes down; write its numbers in rising order", key)


class TldrTask(WritingSection):
    """TLDR: one agent writes a concise summary of a post, the other a detailed one (H = 1)."""

    name: Literal["tldr"] = Field(default="tldr", description="the task")
    min_tokens: int = _least_tokens(8)
    vocabulary_window: list[float] = _vocabulary_window(1.3, 2.0)
    transition_rate: float = _transition_rate(0.6)
    overlap_full: float = _overlap_full(0.03)


class ArxivTask(WritingSection):
    """arXiv: agents write two paragraphs of an introduction from an abstract (H = 1)."""

    name: Literal["arxiv"] = Field(default="arxiv", description="the task")
    min_tokens: int = _least_tokens(128)
    vocabulary_window: list[float] = _vocabulary_window(0.5, 0.7, 1.3, 1.7)
    transition_rate: float = _transition_rate(0.4)
    overlap_full: float = _overlap_full(0.23)
