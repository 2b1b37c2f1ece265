"""Text to ids and back, for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from transformers import PreTrainedTokenizerBase


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Ids of a piece of text as it stands: nothing added, nothing cut."""
    return tuple(cast("list[int]", tokenizer(text, add_special_tokens=False)["input_ids"]))


def ids_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], special: bool) -> str:
    """Text of ids, with special tokens spelt out or left out."""
    return cast("str", tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False))
