"""Settings of the writing tasks, TLDR and arXiv (tasks.md section 1)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collm.config.tasks.base import TaskSection


class WritingSection(TaskSection):
    """What both writing tasks have."""

    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    lexicon: str | None = Field(
        default=None, description="a .json file of stopwords and transition phrases by category; null = the project's own"
    )


class TldrTask(WritingSection):
    """TLDR: one agent writes a concise summary of a post, the other a detailed one (H = 1)."""

    name: Literal["tldr"] = Field(default="tldr", description="the task")


class ArxivTask(WritingSection):
    """arXiv: agents write two paragraphs of an introduction from an abstract (H = 1)."""

    name: Literal["arxiv"] = Field(default="arxiv", description="the task")
