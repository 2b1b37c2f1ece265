"""The pages of docs/methods: every command in them resolves, every key they name exists, every refusal they list happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from run_tools import agent, log_rows, model_folder, toy_config

from collm import api
from collm.cli.main import app_main
from collm.config import catalog
from collm.config.load import resolve
from collm.config.schema import Config
from collm.errors import ConfigError
from collm.training.trainer import Trainer

FOLDER = Path(__file__).parent.parent / "docs" / "methods"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(FOLDER.glob("*.md"))}
METHODS = [entry.name for entry in catalog.methods()]
ALIASES = {"ac": "ac", "grpo": "magrpo", "rloo": "marloo", "remax": "maremax"}
"""The page of a method that is a preset of another."""


def code_spans(text: str) -> list[str]:
    """What stands between single backticks, code blocks left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(text: str, *names: str) -> list[list[str]]:
    """The arguments of every `collm NAME ...` in code blocks and code spans."""
    blocks = [line for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S) for line in block.splitlines()]
    found = [shlex.split(line, comments=True)[1:] for line in blocks + code_spans(text) if line.startswith("collm ")]
    return [args for args in found if args and args[0] in names]


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables under the first heading that begins so, header and rule left out."""
    section = text.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_resolves(page, monkeypatch, capsys):
    trained: list[Config] = []
    monkeypatch.setattr(api, "train", lambda config, **_: trained.append(config))
    found = commands(PAGES[page], "train", "config")
    for args in found:
        with pytest.raises(SystemExit) as caught:
            app_main(args)
        assert not caught.value.code, f"{shlex.join(args)}: {capsys.readouterr().err}"
    assert len(trained) == sum(args[0] == "train" for args in found)
    if page != "README":
        assert trained
    if page in METHODS:
        own = resolve("strbuild", method=page).method
        assert {config.method for config in trained} == {own}


def test_every_method_has_a_page_and_a_row_in_the_index():
    index = " ".join(row[0] for row in table_rows(PAGES["README"].replace("# The methods\n", "\n## The methods\n"), "The methods"))
    for method in METHODS:
        page = ALIASES.get(method, method)
        assert page in METHODS
        given = [args[args.index("--method") + 1] for args in commands(PAGES[page], "train", "config") if "--method" in args]
        assert method in given, f"{page}.md shows no command with --method {method}"
        assert f"({page}.md)" in index
        assert f"`{method}`" in index


@pytest.mark.parametrize("page", PAGES)
def test_other_commands_name_methods_that_exist(page):
    for args in commands(PAGES[page], "verify", "compare"):
        names = args[args.index("--methods") + 1].split(",") if args[0] == "compare" else [args[1]]
        assert set(names) <= set(METHODS), shlex.join(args)


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_named_exists(page):
    sections = "algorithm|critic|monte_carlo|replay|training|task|agents|evaluation|logging"
    keys = {key for span in code_spans(PAGES[page]) for key in re.findall(rf"(?<![\w.])(?:{sections})\.[\w.]*\w", span)}
    assert keys or page == "README"
    for key in keys:
        value: Any = resolve("strbuild")
        for part in key.split("."):
            value = value[int(part)] if part.isdigit() else getattr(value, part)


REFUSED = [row[0].strip("`") for row in table_rows(PAGES["actor-critic-options"], "Refused together")]


@pytest.mark.parametrize("settings", REFUSED)
def test_what_is_said_to_be_refused_is_refused(settings):
    parts = settings.split()
    with pytest.raises(ConfigError) as caught:
        resolve("strbuild", overrides=parts)
    # The refusal is about this pair: it names keys of the row, and each of them is fine by itself or with the method.
    assert any(part.partition("=")[0] in str(caught.value) for part in parts if not part.startswith("method="))
    if len(parts) > 1:
        resolve("strbuild", method="collm-dc", overrides=[parts[-1]])


def test_the_table_of_refusals_is_not_empty():
    assert len(REFUSED) >= 15


# -- metrics -----------------------------------------------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "collm-cc": {},
    "collm-dc": {},
    "shared backbone": {"method": "collm-dc", "critic": {"shared_backbone": True}},
    "ac": {"method": "collm-cc", "agents": 1},
    "options": {"method": "collm-cc", "algorithm": {"kl_coef": 0.1, "entropy_coef": 0.1, "epochs": 2, "clip_ratio": 0.2}},
    "ma-reinforce": {},
    "magrpo": {},
    "marloo": {},
    "maremax": {"monte_carlo": {"samples": 1}},
}
SHOWN = {"collm-dc": ["collm-dc", "shared backbone"], "actor-critic-options": ["options"], "README": list(RUNS)}
"""Which runs' metrics a page may name; by default those of its own method."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The last row of metrics.jsonl of a tiny run of every kind."""
    root = tmp_path_factory.mktemp("runs")
    models = [model_folder(root / f"model_{i}", seed=i) for i in range(2)]
    small = {"training": {"updates": 1, "episodes_per_update": 1}, "evaluation": {"every": 0, "sampled_episodes": 1, "bootstrap": 100}}
    found: dict[str, dict[str, Any]] = {}
    for name, settings in RUNS.items():
        sections = {"method": name, **small, **settings}
        critic, n = sections.pop("critic", {}), sections.pop("agents", 2)
        config = toy_config([agent(model) for model in models[:n]], critic, **sections)
        assert Trainer(config, root / name).run()
        found[name] = log_rows(root / name, "metrics.jsonl")[-1]
    return found


def generic(key: str) -> set[str]:
    """A row's key as the pages write it."""
    name, slash, member = key.partition("/")
    if not slash or name == "env":
        return {key}
    return {f"{name}/MEMBER", f"{name}/CRITIC" if member.startswith("critic") else f"{name}/AGENT"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_metric_named_is_in_a_row(page, rows):
    there = set().union(*(generic(key) for name in SHOWN.get(page, [page]) for key in rows[name]))
    table = [key for heading in ("What to expect", "Metrics") for row in table_rows(PAGES[page], heading) for key in code_spans(row[0])]
    assert len(table) >= 4
    named = {span for span in code_spans(PAGES[page]) if re.fullmatch(r"\w+/(AGENT|CRITIC|MEMBER)", span)}
    assert not (named | set(table)) - there


@pytest.mark.slow
def test_metrics_of_every_method_are_in_every_row(rows):
    wanted = {key for row in table_rows(PAGES["README"], "Metrics") for key in code_spans(row[0])}
    for name, row in rows.items():
        assert wanted <= set().union(*(generic(key) for key in row)), name


@pytest.mark.slow
def test_costs_are_those_of_the_index(rows):
    """H = 2, and K = 2 but for maremax."""
    chain, tree, greedy = 2, 2 * (2**2 - 1) // (2 - 1), 2 * (2 + 3) // 2
    expected = {"collm-cc": chain, "collm-dc": chain, "ac": chain, "ma-reinforce": tree, "magrpo": tree, "marloo": tree, "maremax": greedy}
    assert {name: rows[name]["env_steps"] for name in expected} == expected
    assert all(rows[name]["inference_calls"] == (1 if name == "ac" else 2) * steps for name, steps in expected.items())
