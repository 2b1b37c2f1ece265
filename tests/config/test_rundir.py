"""Run folders: fresh by default, never written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.config.load import resolve
from collm.config.rundir import existing_run, new_run_dir
from collm.errors import RunFolderError


def fill(folder: Path) -> Path:
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    return folder


def test_default_names_count_up(tmp_path):
    config = resolve("strbuild", seed=3)
    names = []
    for _ in range(3):
        with new_run_dir(config, None, tmp_path / "runs") as folder:
            names.append(fill(folder).name)
    assert names == ["strbuild-collm-cc-seed3", "strbuild-collm-cc-seed3-2", "strbuild-collm-cc-seed3-3"]
    with new_run_dir(resolve("pkg.mod:MyEnv"), None, tmp_path / "runs") as folder:
        assert folder.name == "MyEnv-collm-cc-seed0"


def test_a_folder_nothing_was_written_to_goes_away(tmp_path):
    with new_run_dir(resolve("strbuild"), tmp_path / "a" / "b") as folder:
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), new_run_dir(resolve("strbuild"), folder):
        raise ZeroDivisionError
    assert not folder.exists()


def test_a_run_is_not_written_over(tmp_path):
    fill(tmp_path)
    with pytest.raises(RunFolderError, match=r"already holds a run \(config.yaml\).*collm train --resume"):
        new_run_dir(resolve("strbuild"), tmp_path).__enter__()
    assert existing_run(tmp_path) == tmp_path


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunFolderError, match="cannot be made"):
        new_run_dir(resolve("strbuild"), tmp_path / "file" / "run").__enter__()
    with pytest.raises(RunFolderError, match="holds no run"):
        existing_run(tmp_path / "none")
