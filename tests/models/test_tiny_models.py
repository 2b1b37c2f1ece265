"""The built-in models are ordinary Hugging Face folders: everything here uses plain `transformers`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import collm.models

TINY = Path(collm.models.__file__).parent / "tiny"
NAMES = ("tiny-a", "tiny-b")
TOKENIZERS: dict[str, PreTrainedTokenizerBase] = {name: AutoTokenizer.from_pretrained(TINY / name) for name in NAMES}
DIALOGUE = [
    {"role": "user", "content": "Build the string I.\nYour blocks: oak_planks, stone"},
    {"role": "assistant", "content": "/setblock 12 4 0 oak_planks\n/setblock 14 3 0 stone"},
    {"role": "user", "content": "Turn 2 of 4. Score 0.97 of 2.0."},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "Turn 3 of 4."},
]

texts = st.text(st.characters(exclude_categories=["Cs"]))
both = pytest.mark.parametrize("name", NAMES)


def rendered(name: str, turns: int) -> str:
    return str(TOKENIZERS[name].apply_chat_template(DIALOGUE[:turns], tokenize=False, add_generation_prompt=turns % 2 == 1))


def ids(name: str, text: str) -> list[int]:
    return list(TOKENIZERS[name].encode(text, add_special_tokens=False))


@both
def test_is_a_small_fp32_qwen3_with_its_own_vocabulary(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(TINY / name)
    assert model.config.model_type == "qwen3"
    assert model.config.num_key_value_heads == model.config.num_attention_heads
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0.5e6 < sum(p.numel() for p in model.parameters()) < 2e6
    assert model.config.vocab_size == len(TOKENIZERS[name])
    assert model.generation_config.eos_token_id == model.config.eos_token_id == TOKENIZERS[name].eos_token_id


def test_package_data_stays_small() -> None:
    assert sum(f.stat().st_size for f in TINY.rglob("*") if f.is_file()) < 12e6


def test_tokenizers_and_templates_differ() -> None:
    a, b = (TOKENIZERS[name] for name in NAMES)
    assert a.get_vocab() != b.get_vocab()
    assert a.eos_token != b.eos_token
    assert a.bos_token is None
    assert b.bos_token == "<s>"
    assert rendered("tiny-a", 1) != rendered("tiny-b", 1)
    line = DIALOGUE[1]["content"]
    assert len(ids("tiny-a", line)) != len(ids("tiny-b", line))


def test_padding_is_its_own_token_in_a_and_the_eos_in_b() -> None:
    assert TOKENIZERS["tiny-a"].pad_token_id != TOKENIZERS["tiny-a"].eos_token_id
    assert TOKENIZERS["tiny-b"].pad_token_id == TOKENIZERS["tiny-b"].eos_token_id


@both
@given(text=texts)
def test_any_text_round_trips(name: str, text: str) -> None:
    assert TOKENIZERS[name].decode(ids(name, text)) == text


@both
@pytest.mark.parametrize("turns", range(1, len(DIALOGUE)))
def test_template_only_appends(name: str, turns: int) -> None:
    earlier, later = rendered(name, turns), rendered(name, turns + 1)
    assert later.startswith(earlier)
    assert ids(name, later)[: len(ids(name, earlier))] == ids(name, earlier)


@both
def test_an_answer_ends_with_the_eos(name: str) -> None:
    asked, answered = rendered(name, 1), rendered(name, 2)
    assert answered == asked + DIALOGUE[1]["content"] + TOKENIZERS[name].eos_token


@both
def test_template_takes_a_system_message_and_refuses_unknown_roles(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    text = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *DIALOGUE[:1]], tokenize=False)
    assert "Be brief." in str(text)
    with pytest.raises(Exception, match="unknown role"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "beep"}], tokenize=False)


@both
def test_numbers_are_single_tokens(name: str) -> None:
    assert all(len(ids(name, f" {n}")) == 1 for n in range(100))


@pytest.mark.parametrize(("name", "most"), [("tiny-a", 4), ("tiny-b", 5)])
@pytest.mark.parametrize("block", ["oak_planks", "stone", "white_concrete", "obsidian", "glass", "bricks"])
def test_a_command_costs_few_tokens(name: str, most: int, block: str) -> None:
    one, two = f"/setblock 12 4 0 {block}", f"/setblock 12 4 0 {block}\n/setblock 30 0 0 {block}"
    assert len(ids(name, two)) - len(ids(name, one)) <= most
    assert len(ids(name, one)) == 5
