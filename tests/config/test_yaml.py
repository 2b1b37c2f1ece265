"""A configuration written and read back is the same configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collm.config.describe import describe
from collm.config.load import dump, load_config_file, resolve
from collm.config.schema import Config
from collm.config.tree import schema_tree
from collm.config.yamlio import inline, parse_value, to_yaml
from collm.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["off", "yes", "null", "~", "8:10", "1e-3", "1_000", "010", "0x1f", "<<", "=", "2026-01-01", ".5", "-", "a\nb", " a ", "#", "&a"]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def override_sets(draw: st.DrawFn) -> list[str]:
    choices = {
        "seed": st.integers(0, 10**12).map(str),
        "history": st.sampled_from(["full", "last"]),
        "agents.0.model": TEXT.map(inline),
        "agents.2.temperature": st.floats(1e-6, 10).map(repr),
        "critic.optimizer.learning_rate": st.floats(1e-9, 1).map(repr),
        "critic.value_clip": st.none().map(lambda _: "null") | st.floats(1e-3, 10).map(repr),
        "task.data": TEXT.map(inline),
        "task.test_rows": st.from_regex(r"\A[0-9]{0,3}:[0-9]{0,3}\Z").map(inline),
        "task.env_args": st.dictionaries(TEXT, PLAIN, max_size=3).map(inline),
        "logging.wandb.project": TEXT.map(inline),
    }
    keys = draw(st.lists(st.sampled_from(sorted(choices)), unique=True))
    return [f"{key}={draw(choices[key])}" for key in keys]


@settings(max_examples=60, deadline=None)
@given(override_sets())
@example(['task.env_args={? "\\N" : null}'])
@example(['task.env_args={a: "x\\u2028y\\n", "\\x85 ": " \\N\\t"}'])
def test_dump_and_describe_read_back_equal(tmp_path_factory, overrides):
    config = resolve("strbuild", overrides=overrides)
    file: Path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    for text in (dump(config), describe(config)):
        file.write_text(text, encoding="utf-8")
        assert load_config_file(file) == config
    assert resolve("strbuild", config_file=file, preset="paper") == config


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_data_survives_this_reader_and_others(value):
    assert parse_value(to_yaml(value), "test") == value
    assert parse_value(inline(value), "test") == value
    assert "\n" not in inline(value)
    assert yaml.safe_load(to_yaml(value)) == value


def test_what_is_not_plain_data_is_refused():
    config = Config()
    config = config.model_copy(update={"task": config.task.model_copy(update={"env_args": {"f": object()}})})
    with pytest.raises(ConfigError, match="cannot be written as YAML"):
        dump(config)


def test_every_field_is_described():
    lines = describe(resolve("strbuild", overrides=["logging.wandb={}"])).splitlines()
    assert all(line.partition("  # ")[2].strip() for line in lines)
    assert "  updates: 20" in "\n".join(lines)
    for task in ("strbuild", "custom"):
        assert list(schema_tree(task).children) == list(Config.model_fields)
