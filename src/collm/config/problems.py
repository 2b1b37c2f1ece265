"""What is wrong with a drafted configuration, in words for the person who wrote it."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from collm.config.contradiction import Contradiction
from collm.config.draft import Draft
from collm.config.nearest import nearest
from collm.config.schema import Config
from collm.config.section import Section
from collm.config.tasks import AnyTask
from collm.config.tree import TASKS, Node, Path, find, in_words, key_name
from collm.errors import ConfigError

_S = TypeVar("_S", bound=Section)


def checked(draft: Draft) -> Config:
    """The typed configuration. Raises ConfigError, naming key, source and mend, for the first thing that is wrong."""
    return _validated(draft, Config, draft.values, ())


def checked_task(draft: Draft, task: str) -> AnyTask:
    """The typed task section alone, whatever the rest holds. Raises ConfigError like `checked`."""
    return _validated(draft, TASKS[task], draft.values["task"], ("task",))


def _validated(draft: Draft, model: type[_S], values: Any, path: Path) -> _S:
    try:
        return model.model_validate(values, strict=True)
    except ValidationError as error:
        raise ConfigError(_message(draft, error.errors(include_url=False)[0], path)) from None


def _message(draft: Draft, error: ErrorDetails, prefix: Path) -> str:
    path = _schema_path(draft.root, (*prefix, *error["loc"]))
    problem = error.get("ctx", {}).get("error")
    if isinstance(problem, Contradiction):
        return _contradiction(draft, path, problem)
    node = find(draft.root, path)
    if node is None or "[key]" in error["loc"]:
        # Inside a free mapping such as task.env_args only a key can be wrong.
        return f"{key_name(path)}: expected text as a key, got {in_words(error['input'])} ({draft.source(path)})"
    return f"{key_name(path)}: expected {node.expected}, got {in_words(error['input'])} ({draft.source(path)}){_hint(node, error['input'])}"


def _hint(node: Node, value: Any) -> str:
    return f"; nearest: {nearest(value, node.choices)}" if node.choices and isinstance(value, str) else ""


def _contradiction(draft: Draft, section: Path, problem: Contradiction) -> str:
    keys = [(*section, *_parts(key)) for key in problem.keys]
    origins = "; ".join(f"{key_name(key)}: {draft.source(key)}" for key in keys)
    where = f"{key_name(section)}: " if section else ""
    return f"{where}{problem} ({origins})"


def _parts(key: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


def _schema_path(node: Node, location: tuple[int | str, ...]) -> Path:
    """pydantic's location without the marks of its own (the name of the union member, `[key]`)."""
    path: list[int | str] = []
    here: Node | None = node
    for part in location:
        if here is None or here.kind == "mapping":
            if part != "[key]":
                path.append(part)
            continue
        following = here.item if isinstance(part, int) else here.children.get(part)
        if following is not None:
            path.append(part)
            here = following
    return tuple(path)
