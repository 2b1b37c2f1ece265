"""An episode's builds and programs as files in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from collm.errors import DataError, RunFolderError
from collm.reports.build import Build, read_build
from collm.reports.code_view import read_program
from collm.reports.episode_path import is_tree
from collm.reports.export.mcfunction import mcfunction_text
from collm.reports.export.picture import draw_build
from collm.reports.export.schematic import write_schematic
from collm.types import Episode


def export_episode(episode: Episode, leaf: int, folder: Path) -> list[Path]:
    """Write what was built or programmed on the path to joint action `leaf`; returns the files in order.

    Per turn `ID_turn1.png`, `.mcfunction` and `.schem`, or `.py`; in a rollout tree the joint action's number is in the
    name as well. Files of the same name are replaced.

    Raises RunFolderError where the episode holds neither, DataError for a block id that Minecraft would not read and for a
    folder that cannot be written.
    """
    writers: list[Callable[[], list[Path]]] = []
    for index in episode.path(leaf):
        tr = episode.transitions[index]
        name = _name(episode.id) + f"_turn{tr.turn + 1}" + (f"_action{index}" if is_tree(episode) else "")
        caption = f"episode {episode.id}, turn {tr.turn + 1}: reward {tr.reward:.3f}"
        build, judged = read_build(tr.details), read_program(tr.details)
        if build is not None:
            # Its text first: an id that no file can hold is told before anything is written.
            function = mcfunction_text(build, caption)
            writers.append(lambda b=build, f=function, n=name, c=caption: _write_build(b, f, folder, n, c))
        if judged is not None:
            writers.append(lambda p=judged.program, n=name: _write_program(p, folder, n))
    if not writers:
        raise RunFolderError(f"episode {episode.id} has nothing to export: its details hold neither blocks nor a program")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for write in writers for path in write()]
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from error


def _write_build(build: Build, function: str, folder: Path, name: str, caption: str) -> list[Path]:
    picture, commands = folder / f"{name}.png", folder / f"{name}.mcfunction"
    draw_build(build, caption).save(picture)
    commands.write_text(function, encoding="utf-8")
    return [picture, commands, write_schematic(build, folder, name)]


def _write_program(program: str, folder: Path, name: str) -> list[Path]:
    path = folder / f"{name}.py"
    # A response may hold half of a surrogate pair, which no file of text can.
    path.write_text(program, encoding="utf-8", errors="backslashreplace")
    return [path]


def _name(episode_id: str) -> str:
    """The id as a file may be called; names of functions are lower case."""
    return re.sub(r"[^a-z0-9_.-]", "_", episode_id.lower())
