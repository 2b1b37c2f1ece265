"""Turning messages into token ids, and an agent's append-only history.

Responses enter the history as the ids that were sampled. Only the text between two responses is ever tokenised.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Literal, cast

from transformers import PreTrainedTokenizerBase

from collm.errors import ContextOverflowError, ModelError
from collm.models.text import ids_text, text_ids

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}\n"
    "Assistant: {% else %}{{ m['content'] }}{{ eos_token or '\n' }}\n{% endif %}{% endfor %}"
)
"""For models without a chat template."""

_ANSWER = "collm-answer-mark"
_OTHER = "another message"


class ChatFormat:
    """Renders an agent's messages with its model's chat template (the plain one where it has none).

    Raises ModelError where the template does not reproduce an assistant message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_args: dict[str, Any]) -> None:
        self.tokenizer = tokenizer
        self._args = template_args
        if tokenizer.chat_template is None:
            tokenizer.chat_template = PLAIN_TEMPLATE
        if _ANSWER not in self._render([("user", "a"), ("assistant", _ANSWER), ("user", "b")]):
            raise ModelError(
                f"the chat template of {tokenizer.name_or_path} drops assistant messages; collm needs one that renders dialogues"
            )
        # The tokenizer puts both together anew whenever it is asked.
        self._special = frozenset(tokenizer.all_special_ids) | frozenset(tokenizer.added_tokens_decoder)
        # After an answer, before any message: the template's own.
        self._front = self._after_answer(_OTHER)

    def first(self, message: str) -> tuple[int, ...]:
        """Ids of a dialogue that begins with `message`, up to where the agent answers."""
        return text_ids(self.tokenizer, self._render([("user", message)]))

    def following(self, message: str, last_id: int) -> tuple[int, ...]:
        """Ids that go between a response ending in `last_id` and the agent's next response.

        A response cut by the token limit is closed as the template would close it; one that ended with the template's
        own closing token is not closed twice.
        """
        between = self._after_answer(message)
        if last_id in self._special:
            closer = ids_text(self.tokenizer, [last_id], special=True)
            # A message that begins like the closer keeps all of itself.
            if between.startswith(closer) and self._front.startswith(closer):
                between = between.removeprefix(closer)
        return text_ids(self.tokenizer, between)

    def closer_id(self) -> int | None:
        """The special token with which the template closes an answer, if it does: it ends a response as EOS does."""
        ids = text_ids(self.tokenizer, self._after_answer("b"))
        return ids[0] if ids and ids[0] in self._special else None

    def text(self, response_ids: tuple[int, ...]) -> str:
        """A response as text, special tokens left out."""
        return ids_text(self.tokenizer, response_ids, special=False)

    def _after_answer(self, message: str) -> str:
        """What the template puts after an answer that is followed by `message`, up to where the agent answers again."""
        text = self._render([("user", "a"), ("assistant", _ANSWER), ("user", message)])
        return text[text.index(_ANSWER) + len(_ANSWER) :]

    def _render(self, messages: list[tuple[str, str]]) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        rendered = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **self._args)
        return cast("str", rendered)


class TokenHistory:
    """h_{i,t} as an append-only list of token ids (method.md section 2).

    `mode: full` keeps every turn; `mode: last` only the newest prompt. When a new prompt plus `max_new_tokens` would
    pass the context window, the oldest whole turns are dropped; `dropped` counts them.
    Raises ContextOverflowError if the newest prompt alone does not fit.
    """

    def __init__(self, agent: str, chat: ChatFormat, mode: Literal["full", "last"], context_window: int, max_new_tokens: int) -> None:
        self._agent = agent
        self._chat = chat
        self._mode: Literal["full", "last"] = mode
        self._room = context_window - max_new_tokens
        self._turns: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []  # message, prompt ids, response ids
        self._message: str = ""
        self._prompt: tuple[int, ...] = ()
        self.dropped = 0

    def fork(self) -> TokenHistory:
        """An independent history with the same past."""
        twin = TokenHistory(self._agent, self._chat, self._mode, 0, 0)
        twin._room, twin._turns, twin._message, twin._prompt = self._room, list(self._turns), self._message, self._prompt
        twin.dropped = self.dropped
        return twin

    def observe(self, message: str) -> tuple[int, ...]:
        """Append observation o_{i,t}; returns the whole context h_{i,t} as token ids."""
        if self._mode == "last":
            self._turns.clear()
        self._message = message
        self._prompt = self._chat.following(message, self._turns[-1][2][-1]) if self._turns else self._chat.first(message)
        context = self._context()
        while self._turns and len(context) > self._room:
            self._drop_oldest()
            context = self._context()
        if len(context) > self._room:
            raise ContextOverflowError(
                f"{self._agent}: a prompt of {len(context)} tokens does not fit into {self._room} "
                f"(context_window less max_new_tokens); raise context_window or shorten the task's prompt"
            )
        return context

    def respond(self, response_ids: tuple[int, ...]) -> None:
        """Append the sampled macro-action a_{i,t}."""
        self._turns.append((self._message, self._prompt, response_ids))

    def _context(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(prompt + response for _, prompt, response in self._turns)) + self._prompt

    def _drop_oldest(self) -> None:
        self._turns.pop(0)
        self.dropped += 1
        if self._turns:
            message, _, response = self._turns[0]
            self._turns[0] = (message, self._chat.first(message), response)
        else:
            self._prompt = self._chat.first(self._message)
