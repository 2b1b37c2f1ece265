"""What a run's configuration ends up being, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.config.catalog import methods, task_presets
from collm.config.load import config_from, load_config_file, resolve, resolve_task
from collm.config.presets import task_presets as read_task_presets
from collm.config.schema import Config
from collm.config.tasks import CustomTask, StrBuildTask


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_default_is_two_tiny_agents_and_a_centralized_critic():
    config = resolve("strbuild")
    assert [agent.model for agent in config.agents] == ["tiny-a", "tiny-b"]
    assert (config.method, config.critic.model, config.seed) == ("collm-cc", None, 0)
    assert config.agents[1].optimizer.learning_rate == 1.5e-4


def test_the_paper_preset_has_the_papers_numbers():
    config = resolve("strbuild", preset="paper", method="collm-dc")
    assert config.method == "collm-dc"
    assert [agent.model for agent in config.agents] == ["Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen3-4B-Instruct-2507"]
    assert config.critic.model == "Qwen/Qwen3-4B-Instruct-2507"
    for agent in config.agents:
        assert (agent.temperature, agent.top_p, agent.top_k, agent.max_new_tokens) == (0.6, 0.6, 0, 256)
        assert agent.optimizer.learning_rate == 2.5e-6
    assert config.critic.optimizer.learning_rate == 1.5e-6
    assert (config.algorithm.discount, config.algorithm.advantage_clip) == (0.9, 0.05)
    assert isinstance(config.task, StrBuildTask)
    assert config.task.turns == 4
    # 120 epochs over 8 strings, one episode per update; 2 samples of each of 2 test strings.
    assert config.training.updates * config.training.episodes_per_update == 120 * 8
    assert config.evaluation.sampled_episodes == 4


@pytest.mark.parametrize("method", [entry.name for entry in methods()])
def test_every_preset_is_valid_with_every_method(method):
    assert task_presets()
    for preset in read_task_presets():
        task, _, size = preset.name.partition("-")
        overrides = ["task.env=pkg.mod:Env"] if task == "custom" else []
        config = resolve(task, method=method, preset=size, overrides=overrides)
        assert config.method == {"grpo": "magrpo", "rloo": "marloo", "remax": "maremax", "ac": "collm-cc"}.get(method, method)
        assert len(config.agents) == (1 if method in ("grpo", "rloo", "remax", "ac") else 2)
        assert preset.description


def test_later_layers_win(tmp_path):
    file = write(tmp_path, "seed: 1\nmethod: collm-dc\ntraining:\n  updates: 7\n  episodes_per_update: 3\n")
    assert resolve("strbuild", config_file=file).method == "collm-dc"
    config = resolve("strbuild", config_file=file, seed=2, method="collm-cc", overrides=["training.updates=8"])
    assert (config.seed, config.method) == (2, "collm-cc")
    assert (config.training.updates, config.training.episodes_per_update) == (8, 3)
    assert resolve("strbuild", seed=2, overrides=["seed=3", "seed=4"]).seed == 4


def test_a_mapping_merges_and_a_list_replaces(tmp_path):
    file = write(tmp_path, "agents:\n  - model: mine\ncritic:\n  value_clip: 0.2\n")
    config = resolve("strbuild", config_file=file)
    assert (config.critic.optimizer.learning_rate, config.critic.value_clip) == (1.5e-3, 0.2)
    assert [agent.model for agent in config.agents] == ["mine"]
    # Nothing of the preset's agent is left: a real model does not train at a tiny one's rate.
    assert config.agents[0].optimizer.learning_rate == 5e-6


def test_an_empty_section_changes_nothing(tmp_path):
    assert resolve("strbuild", config_file=write(tmp_path, "training:\n  # updates: 3\n")) == resolve("strbuild")
    assert resolve("strbuild", config_file=write(tmp_path, "# nothing yet\n")) == resolve("strbuild")


def test_an_index_one_past_the_end_copies_the_last_agent():
    config = resolve("strbuild", overrides=["agents.1.temperature=0.5", "agents.2.model=tiny-a", "agents.3.top_k=5"])
    assert [agent.model for agent in config.agents] == ["tiny-a", "tiny-b", "tiny-a", "tiny-a"]
    assert [agent.temperature for agent in config.agents] == [1.0, 0.5, 0.5, 0.5]
    assert [agent.top_k for agent in config.agents] == [0, 0, 0, 5]


def test_null_takes_an_agent_out():
    config = resolve("strbuild", overrides=["agents.0=null"])
    assert [agent.model for agent in config.agents] == ["tiny-b"]
    assert config.agents[0].optimizer.learning_rate == 1.5e-4


def test_a_whole_agent_may_be_given_at_once():
    config = resolve("strbuild", overrides=["agents.0={model: mine, optimizer: {weight_decay: 0.1}}"])
    assert config.agents[0].model == "mine"
    assert (config.agents[0].optimizer.weight_decay, config.agents[0].optimizer.learning_rate) == (0.1, 1.5e-4)


def test_free_mappings_and_optional_sections_are_reached_by_key():
    config = resolve("strbuild", overrides=["task.env_args.grid.size=3", "agents.0.template_args.tone=calm", "logging.wandb.project=mine"])
    assert config.task.env_args == {"grid": {"size": 3}}
    assert config.agents[0].template_args == {"enable_thinking": False, "tone": "calm"}
    assert config.logging.wandb is not None
    assert (config.logging.wandb.project, config.logging.wandb.mode) == ("mine", "online")
    assert resolve("strbuild", overrides=["logging.wandb={}"]).logging.wandb is not None


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("algorithm.advantage_normalization=off", "algorithm", "advantage_normalization", "off"),
        ("task.train_rows=1:30", "task", "train_rows", "1:30"),
        ("critic.value_clip=1e-3", "critic", "value_clip", 1e-3),
        ("critic.value_clip=2", "critic", "value_clip", 2.0),
        ("critic.model=null", "critic", "model", None),
        ("critic.model='null'", "critic", "model", "null"),
        ("critic.model=no", "critic", "model", "no"),
        ("task.data=a=b.csv", "task", "data", "a=b.csv"),
        ("logging.tensorboard=false", "logging", "tensorboard", False),
    ],
)
def test_values_are_read_by_the_rules_of_yaml_1_2(override, section, field, value):
    assert resolve("strbuild", overrides=[override]).model_dump()[section][field] == value


def test_an_import_path_is_a_custom_task():
    config = resolve("my_pkg.my_mod:MyEnv", overrides=["task.env_args={size: 3}"])
    assert isinstance(config.task, CustomTask)
    assert (config.task.env, config.task.env_args) == ("my_pkg.my_mod:MyEnv", {"size": 3})
    assert config == resolve("custom", overrides=["task.env=my_pkg.my_mod:MyEnv", "task.env_args.size=3"])
    built_in = resolve("strbuild", overrides=["task.env=my_pkg.my_mod:MyEnv"])
    assert (built_in.task.name, built_in.task.env) == ("strbuild", "my_pkg.my_mod:MyEnv")


def test_the_task_section_alone_does_not_mind_the_agents():
    task = resolve_task("strbuild", overrides=["task.profile=comlrl", "task.palettes=[[stone], [obsidian], [oak_planks]]"])
    assert isinstance(task, StrBuildTask)
    assert (task.profile, task.palettes) == ("comlrl", [["stone"], ["obsidian"], ["oak_planks"]])


def test_a_complete_file_takes_no_preset(tmp_path):
    config = load_config_file(write(tmp_path, "training: {updates: 3}\n"))
    assert config == config_from({"training": {"updates": 3}})
    assert config.training.updates == 3
    assert config.agents == Config().agents
