"""Histories are append-only token lists; sampled ids are never re-derived from text."""

from __future__ import annotations

import pytest
from builders import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.errors import ContextOverflowError, ModelError
from collm.models.chat import ChatFormat, TokenHistory

TOKENIZER = byte_tokenizer()
EOS = TOKENIZER.eos_token_id


def chat(**kwargs) -> ChatFormat:
    return ChatFormat(byte_tokenizer(**kwargs), {})


def decoded(ids) -> str:
    return TOKENIZER.decode(ids, skip_special_tokens=False)


def test_a_dialogue_reads_as_the_template_renders_it():
    history = TokenHistory("a", chat(), "full", 500, 10)
    history.observe("one")
    history.respond((*TOKENIZER("yes")["input_ids"], EOS))
    context = history.observe("two")
    assert decoded(context) == "<|user|>one<|assistant|>yes<|end|><|user|>two<|assistant|>"


def test_a_response_cut_by_the_limit_is_closed():
    history = TokenHistory("a", chat(), "full", 500, 10)
    history.observe("one")
    history.respond(tuple(TOKENIZER("ye")["input_ids"]))
    assert decoded(history.observe("two")) == "<|user|>one<|assistant|>ye<|end|><|user|>two<|assistant|>"


def test_models_without_a_template_get_the_plain_one():
    history = TokenHistory("a", chat(chat_template=None), "full", 500, 10)
    history.observe("one")
    history.respond((*TOKENIZER("yes")["input_ids"], EOS))
    assert decoded(history.observe("two")) == "User: one\nAssistant: yes<|end|>\nUser: two\nAssistant: "


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.lists(st.integers(0, 255), min_size=1, max_size=6), st.booleans()), min_size=1, max_size=5)
)
def test_sampled_ids_stay_as_sampled_and_contexts_only_grow(turns):
    history = TokenHistory("a", chat(), "full", 10000, 10)
    before: tuple[int, ...] = ()
    for message, ids, closed in turns:
        context = history.observe(message)
        assert context[: len(before)] == before
        response = (*ids, EOS) if closed else tuple(ids)
        history.respond(response)
        before = context + response


def test_history_last_keeps_only_the_newest_prompt():
    history = TokenHistory("a", chat(), "last", 500, 10)
    history.observe("one")
    history.respond((65, EOS))
    assert decoded(history.observe("two")) == "<|user|>two<|assistant|>"
    assert history.dropped == 0


def test_past_the_window_the_oldest_whole_turns_are_dropped_and_counted():
    history = TokenHistory("a", chat(), "full", 40, 10)
    for message in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        context = history.observe(message)
        history.respond((*TOKENIZER("ok")["input_ids"], EOS))
    assert decoded(context) == "<|user|>bbbbbbbb<|assistant|>ok<|end|><|user|>cccccccc<|assistant|>"
    assert history.dropped == 1
    assert decoded(history.observe("d" * 20)) == "<|user|>" + "d" * 20 + "<|assistant|>"
    assert history.dropped == 3


def test_a_prompt_that_cannot_fit_is_an_error_that_names_the_agent():
    with pytest.raises(ContextOverflowError, match=r"agent_1.*prompt of 42 tokens does not fit into 30.*context_window"):
        TokenHistory("agent_1", chat(), "full", 40, 10).observe("x" * 40)


def test_a_template_that_drops_answers_is_refused():
    with pytest.raises(ModelError, match="drops assistant messages"):
        chat(chat_template="{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}")


def test_a_template_with_a_thinking_block_in_the_generation_prompt():
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
        "{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
    )
    history = TokenHistory("a", ChatFormat(byte_tokenizer(chat_template=template), {"enable_thinking": False}), "full", 500, 10)
    history.observe("one")
    history.respond((*TOKENIZER("A")["input_ids"], EOS))
    assert decoded(history.observe("two")) == "[user]one\n[assistant]<think></think>A<|end|>\n[user]two\n[assistant]<think></think>"


def test_a_message_that_begins_like_the_closer_keeps_all_its_tokens():
    """A template without closers: what looks like one after an answer is the next message's own."""
    tokenizer = byte_tokenizer(chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    chat = ChatFormat(tokenizer, {})
    eos = tokenizer.eos_token_id
    assert chat.following("<|end|>x", eos) == chat.following("<|end|>x", 70) == (eos, *chat.first("x"))
    closing = ChatFormat(byte_tokenizer(), {})
    assert closing.following("x", eos) == closing.following("x", 70)[1:]
