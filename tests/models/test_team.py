"""Placing agents and critics on hosts, and what is refused."""

from __future__ import annotations

import pytest
import torch
from builders import CHAT, byte_tokenizer, small_model

from collm.config.schema import AgentConfig, Config, CriticConfig, TrainingConfig
from collm.errors import EnvContractError, ModelError
from collm.models.chat import ChatFormat
from collm.models.loading import LoadedModel
from collm.models.team import build_team, cast_at_every_pass


def config(n: int = 2, **agent) -> Config:
    return Config(agents=[AgentConfig(model="x", **agent)] * n, critic=CriticConfig(model="x"))


def live(*names: str, **model) -> dict[str, LoadedModel]:
    return {name: small_model(seed=i, **model) for i, name in enumerate(names)}


def test_fully_tuned_members_have_a_host_each():
    team = build_team(config(), ["a", "b"], {"critic": ("a", "b")}, 3, live("a", "b", "critic"))
    assert list(team.hosts) == ["a", "b", "critic"]
    assert team.critics["critic"].agents == ("a", "b")


@pytest.mark.parametrize("names", [["critic", "b"], ["a", "a"], ["a", "b/c"], ["a", "x.y"]])
def test_agent_names_that_collide_or_are_no_names_are_refused(names):
    with pytest.raises(EnvContractError, match="agent name"):
        build_team(config(), names, {"critic": tuple(names)}, 3, live(*names, "critic"))


def test_one_object_for_two_members_is_refused():
    models = live("a", "b", "critic")
    models["b"] = models["a"]
    with pytest.raises(ModelError, match="same object as another member's"):
        build_team(config(), ["a", "b"], {"critic": ("a", "b")}, 3, models)


def test_dropout_of_a_live_model_is_refused_where_it_would_be_on():
    models = live("a", "b", "critic")
    models["b"].model.config.attention_dropout = 0.1
    build_team(config(), ["a", "b"], {"critic": ("a", "b")}, 3, live("a", "b", "critic"))
    checkpointing = config().model_copy(update={"training": TrainingConfig(gradient_checkpointing=True)})
    with pytest.raises(ModelError, match=r"models\['b'\] has attention_dropout=0\.1, .*training\.gradient_checkpointing: false"):
        build_team(checkpointing, ["a", "b"], {"critic": ("a", "b")}, 3, models)


def test_half_precision_master_weights_are_refused():
    with pytest.raises(ModelError, match=r"bfloat16.*load it with dtype=torch\.float32"):
        build_team(config(), ["a", "b"], {"critic": ("a", "b")}, 3, live("a", "b", "critic", dtype=torch.bfloat16))


def test_a_context_window_the_model_cannot_read_is_refused():
    models = live("a", "b", "critic")
    models["b"].model.config.max_position_embeddings = 1024
    with pytest.raises(ModelError, match="context_window=2048 is more than the 1024 tokens that b can read"):
        build_team(config(), ["a", "b"], {"critic": ("a", "b")}, 3, models)


def test_the_template_s_own_closing_token_ends_a_response_and_is_not_written_twice():
    tokenizer = byte_tokenizer(chat_template=CHAT.replace("<|end|>", "<|close|>"))
    tokenizer.add_tokens(["<|close|>"], special_tokens=True)
    closer = tokenizer.convert_tokens_to_ids("<|close|>")
    chat = ChatFormat(tokenizer, {})
    assert chat.closer_id() == closer
    assert tokenizer.decode(chat.following("two", closer)) == "<|user|>two<|assistant|>"
    assert tokenizer.decode(chat.following("two", 66)) == "<|close|><|user|>two<|assistant|>"


@pytest.mark.parametrize(
    ("device", "tuning", "dtype", "told"),
    [
        ("cuda", "lora", "float32", True),
        ("cuda", "lora", "bfloat16", False),
        ("cpu", "lora", "float32", False),
        ("cuda", "full", "float32", False),
    ],
)
def test_a_wide_frozen_base_on_a_gpu_is_told(device, tuning, dtype, told):
    note = cast_at_every_pass("agent_0", AgentConfig(model="/m", tuning=tuning, dtype=dtype), torch.device(device))
    assert (note is not None) == told
    assert note is None or (note.startswith("agent_0: its frozen base /m is in float32") and "dtype: bfloat16" in note)
