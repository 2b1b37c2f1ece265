"""What the writers read: a role each, then the source text. The words around the source never change."""

from __future__ import annotations

from collm.envs.writing.rows import TaskName
from collm.envs.writing.split import MARKER

_INTRODUCTION = "Write a paragraph for the introduction of the paper with this abstract:"
_LINKED = "in sentences linked by transition words."
_ROLES: dict[TaskName, tuple[str, str]] = {
    "tldr": (
        "Write a concise summary of this post. Another agent writes a detailed summary.",
        "Write a detailed summary of this post, with transition words. Another agent writes a concise summary.",
    ),
    "arxiv": (
        f"{_INTRODUCTION} its background and motivation, {_LINKED} Another agent writes the next paragraph, method and implications.",
        f"{_INTRODUCTION} its method and implications, {_LINKED} Another agent writes the first paragraph, background and motivation.",
    ),
}
_ALONE: dict[TaskName, str] = {
    "tldr": f"Write two summaries of this post: a concise one, then a detailed one with transition words. Put {MARKER} between them.",
    "arxiv": "Write two paragraphs for the introduction of the paper with this abstract: its background and motivation, then its method "
    f"and implications, {_LINKED} Put {MARKER} between them.",
}
_SOURCE: dict[TaskName, str] = {"tldr": "Post:", "arxiv": "Abstract:"}


def default_roles(task: TaskName, n_agents: int) -> tuple[str, ...]:
    """The task's own instructions for one or two agents."""
    return _ROLES[task] if n_agents == 2 else (_ALONE[task],)


def prompt(task: TaskName, role: str, source: str) -> str:
    """An agent's prompt: its role, then the post or abstract."""
    return f"{role}\n\n{_SOURCE[task]}\n{source}"
