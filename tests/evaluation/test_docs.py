"""docs/evaluation.md says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import collm
from collm.config.load import resolve
from collm.evaluation.protocols import PROTOCOLS, find_protocol, shaped

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line, comments=True)[2:] for line in PAGE.splitlines() if line.startswith("collm eval ")]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_the_commands_shown_name_things_that_exist(args):
    protocol = find_protocol(args[args.index("--protocol") + 1] if "--protocol" in args else None)
    if not args[0].startswith("runs/"):
        shaped(resolve(args[0], overrides=[arg for arg in args if re.match(r"[a-z_.0-9]+=", arg)]), protocol)


def test_every_protocol_and_setting_is_there():
    assert all(f"| `{name}` |" in PAGE for name in PROTOCOLS)
    settings = set(re.findall(r"`evaluation\.(\w+)`", PAGE))
    assert settings == set(resolve("strbuild").evaluation.model_dump()) - {"every"}


def test_every_field_of_a_row_is_there(letters, tmp_path):
    fields = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in PAGE.split("## Fields of a row")[1].splitlines() if "|" in line))
    row = collm.evaluate(letters(2, evaluation={"timed_turns": 1}), "pipeline", run_dir=tmp_path / "e")
    assert sorted({*fields} - {"pass_at_k", "pass_at_k_ci95"}) == sorted(row)
