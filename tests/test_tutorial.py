"""docs/tutorial-own-task.md, run block by block as a reader would, in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from collm.cli.main import app_main
from collm.config.load import resolve_task
from collm.envs.registry import make_env
from collm.reports.read import rows

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial-own-task.md"


@dataclass(frozen=True)
class Block:
    """A code block of the page; `file` is the name that the line above gives it, if any."""

    language: str
    code: str
    file: str | None


def blocks() -> list[Block]:
    found = re.findall(
        r"(?:^`(?P<file>[\w.]+)`:\n\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return [Block(language, code, file or None) for file, language, code in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, from which modules are imported as from a reader's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("watch", None)


def test_every_block_is_a_file_a_command_or_python():
    """So that none is shown and not run."""
    assert [(b.language, b.file) for b in blocks()] == [
        ("python", "watch.py"),
        ("json", "shifts.jsonl"),
        ("python", None),
        ("yaml", "watch.yaml"),
        ("sh", None),
        ("sh", None),
        ("sh", None),
        ("python", None),
    ]
    assert PAGE.read_text().count("```") == 2 * len(blocks())


def test_the_example_is_the_page_s():
    assert blocks()[0].code == (ROOT / "examples" / "watch.py").read_text()


def test_rewards_of_the_example(monkeypatch):
    """Any number of guards; the best joint answer earns 1 and ends the episode, a clash costs half a shift."""
    monkeypatch.chdir(ROOT)
    env = make_env(resolve_task("examples.watch:WatchEnv", overrides=["task.env_args={agents: 3, turns: 3}"]), 3, "full")
    env.reset(seed=0, options={"task": {"post": "x", "shifts": 9}})
    step = env.step({"agent_0": "0 1 2", "agent_1": "2 3 4", "agent_2": "4 5 6"})
    assert step[1] == dict.fromkeys(env.possible_agents, (5 - 0.5 * 2) / 9)
    assert step[0]["agent_2"] == "Shifts without a guard: 7 8. With several: 2 4. Again."
    step = env.step({"agent_0": "0, 1, 2", "agent_1": "shifts 3-5", "agent_2": "6 7 8 9 10"})
    assert step[1]["agent_0"] == 8 / 9
    assert not any(step[2].values())
    assert step[4]["agent_1"]["details"]["taken"] == {"agent_0": [0, 1, 2], "agent_1": [3, 5], "agent_2": [6, 7, 8]}
    step = env.step({"agent_0": "0 1 2 3 4 5", "agent_1": "3 4 5", "agent_2": "6 7 8"})
    assert (step[1]["agent_0"], step[2]["agent_0"], step[3]["agent_0"], env.agents) == (1.0, True, False, [])
    env.reset(seed=0, options={"task": {"post": "x", "shifts": 9}})
    step = env.step({"agent_0": "0 1 2", "agent_1": "3 4 5", "agent_2": "6 7 8"})
    assert step[1]["agent_0"] == 3.0, "solved at once: what all turns could earn"


@pytest.mark.slow
def test_the_tutorial_from_beginning_to_end(folder, capsys):
    """Everything on the page runs, and the team learns."""
    namespace: dict[str, object] = {}
    for block in blocks():
        if block.file is not None:
            (folder / block.file).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.code, f"{PAGE.name}, python block", "exec"), namespace)
        else:
            for line in block.code.splitlines():
                run_command(line)
    shown = capsys.readouterr().out
    assert "You are guard 2 of 2 at the gate. Shifts: 0 1 2 3" in shown
    before, after, again = rows(folder / "runs" / "watch", "eval.jsonl")
    assert before["update"] == 0
    assert after["update"] == again["update"] == 16
    assert again["episodes"] == 96
    assert again["return_ci95"][0] > before["return_ci95"][1] + 0.1, "better than before, beyond what chance would do"
    assert re.search(r"all, newest first|newest\nid +update +return", shown)
    assert "guards per shift" in shown
    details = json.loads(json.dumps(namespace["infos"]))["agent_0"]["details"]
    assert len(details["guards per shift"]) == 5


def run_command(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "collm"
    with pytest.raises(SystemExit) as ended:
        app_main(words[1:])
    assert ended.value.code == 0, line
