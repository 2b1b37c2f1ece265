"""Each mistake gets one message: the key, what is wrong, where it was said, and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.config.load import config_from, load_config_file, resolve
from collm.errors import ConfigError

JARGON = ("pydantic", "validation error", "Value error", "Input should", "BaseModel", "Traceback", "NoneType", "<class")


def message(task: str = "strbuild", *overrides: str, file: Path | None = None, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(task, overrides=overrides, config_file=file, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not any(word in text for word in JARGON), text
    return text


def file_message(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return message(file=file).replace(str(file), "FILE")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.updats=3", "training.updats: unknown key (argument training.updats=3); nearest valid name: training.updates"),
        ("agents.1.modle=x", "agents.1.modle: unknown key (argument agents.1.modle=x); nearest valid name: agents.1.model"),
        ("epochs=3", "epochs: unknown key (argument epochs=3); nearest valid name: algorithm.epochs"),
        (
            "agents.1.learning_rate=1",
            "agents.1.learning_rate: unknown key (argument agents.1.learning_rate=1); nearest valid name: agents.1.optimizer.learning_rate",
        ),
        ("training.updates=many", "training.updates: expected a whole number >= 1, got text 'many' (argument training.updates=many)"),
        ("training.updates=0", "training.updates: expected a whole number >= 1, got number 0 (argument training.updates=0)"),
        ("agents.0.top_p=1.5", "agents.0.top_p: expected a number > 0 and <= 1, got number 1.5 (argument agents.0.top_p=1.5)"),
        ("agents.0.model=3", "agents.0.model: expected text, got number 3 (argument agents.0.model=3)"),
        ("history=ful", "history: expected one of full, last, got text 'ful' (argument history=ful); nearest: full"),
        (
            "logging.tensorboard=yes",
            "logging.tensorboard: expected true or false, got text 'yes' (argument logging.tensorboard=yes)",
        ),
        ("task.train_rows=8", "task.train_rows: expected text such as 0:8, or null, got number 8 (argument task.train_rows=8)"),
        ("seed=null", "seed: expected a whole number >= 0, got null (argument seed=null)"),
        ("agents=[]", "agents: expected a list with 1 or more entries, got an empty list (argument agents=[])"),
        (
            "agents.4.model=x",
            "agents.4: agents holds entries 0 to 1; the next new one is agents.2 (argument agents.4.model=x)",
        ),
        (
            "agents.first.model=x",
            "agents.first.model: unknown key (argument agents.first.model=x); nearest valid name: agents.0.model",
        ),
        (
            "training.updates.x=1",
            "training.updates.x: training.updates takes a whole number >= 1 and has no keys below it (argument training.updates.x=1)",
        ),
        (
            "task.palettes.0=[stone]",
            "task.palettes.0: task.palettes holds no list yet; give it whole, as task.palettes=[...] (argument task.palettes.0=[stone])",
        ),
        ("task.env_args={1: 2}", "task.env_args.1: expected text as a key, got number 1 (argument task.env_args={1: 2})"),
        ("critic.value_clip=.nan", "critic.value_clip: expected a number > 0, or null, got number nan (argument critic.value_clip=.nan)"),
        ("seed", "argument 'seed' is not an override; write key.path=value, such as training.updates=10"),
        ("task.name=custom", "task.name: 'custom' (argument task.name=custom) contradicts TASK, which says 'strbuild'"),
    ],
)
def test_an_override(override, expected):
    assert message("strbuild", override) == expected


def test_a_value_that_is_not_yaml():
    text = message("strbuild", "task.data=[a")
    assert text.startswith("argument task.data=[a")
    assert "not valid YAML" in text


def test_a_file_names_the_line(tmp_path):
    assert file_message(tmp_path, "seed: 1\ntraining:\n  updats: 3\n") == (
        "training.updats: unknown key (file FILE, line 3); nearest valid name: training.updates"
    )
    assert file_message(tmp_path, "agents:\n  - model: a\n  - model: b\n    top_k: -1\n") == (
        "agents.1.top_k: expected a whole number >= 0, got number -1 (file FILE, line 4)"
    )
    assert file_message(tmp_path, "training: 5\n").endswith("got number 5 (file FILE, line 1)")
    assert file_message(tmp_path, "task:\n  name: custom\n") == (
        "task.name: 'custom' (file FILE, line 2) contradicts TASK, which says 'strbuild'"
    )


def test_a_file_that_is_not_yaml_names_the_line(tmp_path):
    assert file_message(tmp_path, "seed: 1\na: b: c\n").startswith("file FILE, line 2: not valid YAML: ")
    assert file_message(tmp_path, "seed: [1\n").startswith("file FILE, line 2: not valid YAML: ")
    assert file_message(tmp_path, "seed: 1\nx: \x07\n").startswith("file FILE, line 2: not valid YAML: the character")
    assert file_message(tmp_path, "seed: !!python/object:os.system x\n").startswith("file FILE, line 1: not valid YAML: ")
    assert file_message(tmp_path, "seed: 1\nseed: 2\n") == "seed: given twice (file FILE, line 2)"
    assert file_message(tmp_path, "task: &t\n  env_args: *t\n") == "file FILE, line 1: task.env_args holds itself"
    assert "at the top, got a list" in file_message(tmp_path, "- seed\n")


def test_a_file_that_cannot_be_read(tmp_path):
    assert message(file=tmp_path / "none.yaml") == f"file {tmp_path / 'none.yaml'} cannot be read: No such file or directory"
    assert message(file=tmp_path).endswith("Is a directory")
    (tmp_path / "bytes.yaml").write_bytes(b"seed: \xff\n")
    assert "not UTF-8" in message(file=tmp_path / "bytes.yaml")


def test_unknown_names_give_the_nearest():
    assert message("strbild").startswith("task 'strbild' is unknown (argument TASK); nearest: strbuild;")
    assert message(method="collm-c") == (
        "method: expected one of collm-cc, collm-dc, ma-reinforce, magrpo, marloo, maremax, ac, grpo, remax, rloo, "
        "got text 'collm-c' (option --method); nearest: collm-cc"
    )
    assert message(preset="papr") == ("preset: task strbuild has no preset 'papr' (option --preset); it has paper, tiny; nearest: paper")
    assert message("custom", preset="paper").startswith("preset: task custom has no preset 'paper'")


def test_an_option_is_named(tmp_path):
    assert message(seed=-1) == "seed: expected a whole number >= 0, got number -1 (option --seed)"


def test_a_contradiction_names_both_keys_and_their_origins(tmp_path):
    text = message("strbuild", "agents.1.dtype=bfloat16")
    assert text.startswith("agents.1: dtype: bfloat16 contradicts tuning: full")
    assert text.endswith("(agents.1.dtype: argument agents.1.dtype=bfloat16; agents.1.tuning: the default)")

    text = message("strbuild", "context_window=100")
    assert text.startswith("agents.0.max_new_tokens=160 leaves no room")
    assert text.endswith("(agents.0.max_new_tokens: preset strbuild-tiny; context_window: argument context_window=100)")

    text = file_message(tmp_path, "replay:\n  draw: 10\n  capacity: 5\n")
    assert text.endswith("(replay.draw: file FILE, line 2; replay.capacity: file FILE, line 3)")


def test_a_custom_task_asks_for_its_environment():
    assert message("custom").startswith("task: task 'custom' needs task.env")
    assert message("pkg.mod:Not-a-class").startswith("task.env: expected text such as my_pkg.my_mod:MyEnv")


def test_origins_follow_a_copied_and_a_removed_agent():
    overrides = ["agents.1.max_new_tokens=300", "agents.2.model=x", "agents.0=null", "context_window=290"]
    assert "(agents.0.max_new_tokens: argument agents.1.max_new_tokens=300; " in message("strbuild", *overrides)
    assert message("strbuild", "agents.0=null", "agents.0=null").endswith("got an empty list (argument agents.0=null)")


def test_a_complete_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("task:\n  turns: 3\n", encoding="utf-8")
    names = "strbuild, housebuild, tldr, arxiv, coophe, humaneval, mbpp, custom"
    with pytest.raises(ConfigError, match=rf"task.name: expected one of {names}, got a section without it \(file .*, line 1\)"):
        load_config_file(file)
    file.write_text("task:\n  name: strbild\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'strbild' is unknown \(file .*, line 2\); nearest: strbuild"):
        load_config_file(file)
    with pytest.raises(ConfigError, match=r"seed: expected .* got text 'x' \(the given settings\)"):
        config_from({"seed": "x"})
