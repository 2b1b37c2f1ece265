"""Teaches a trained tokenizer and model longer pieces: new BPE merges after the old ones, new embedding rows.

Old text keeps its old pieces wherever no new merge applies, so that what the model has learned stays of use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, models, trainers
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

_FIRST_CHARACTER = 0xE000
"""Private-use characters stand for the old pieces while new merges are learned over them."""
_MOST_PIECES = 0x1900


def extend_tokenizer(tokenizer: PreTrainedTokenizerFast, corpus: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer with merges over its own pieces, learned on `corpus`, up to `vocab_size` pieces.

    Raises ValueError where it has more pieces than there are characters to stand for them.
    """
    old = tokenizer.backend_tokenizer
    state = json.loads(old.to_str())
    vocab: dict[str, int] = dict(state["model"]["vocab"])
    if len(vocab) > _MOST_PIECES:
        raise ValueError(f"{len(vocab)} pieces; at most {_MOST_PIECES} can be extended")
    pieces = {chr(_FIRST_CHARACTER + number): piece for piece, number in vocab.items()}
    words = sorted(word for text in corpus for word in _as_characters(old, text))
    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size + len(pieces) - len(vocab), initial_alphabet=sorted(pieces), limit_alphabet=len(pieces), show_progress=False
    )
    learner.train_from_iterator(words, trainer)
    for pair in json.loads(learner.to_str())["model"]["merges"]:
        left, right = ("".join(pieces[c] for c in part) for part in pair)
        state["model"]["merges"].append([left, right])
        vocab.setdefault(left + right, len(vocab))
    state["model"]["vocab"] = vocab
    return _with_core(tokenizer, Tokenizer.from_str(json.dumps(state)))


def extend_model(model: Qwen3ForCausalLM, before: PreTrainedTokenizerFast, after: PreTrainedTokenizerFast) -> None:
    """Give the model rows for the new pieces, each the mean of the rows of the old pieces that it is made of."""
    old_size, new_size = len(before), len(after)
    rows = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(new_size, mean_resizing=False)
    core = before.backend_tokenizer.model
    with torch.no_grad():
        for number in range(old_size, new_size):
            parts = [token.id for token in core.tokenize(after.convert_ids_to_tokens(number))]
            model.get_input_embeddings().weight[number] = rows[parts].mean(0)


def _as_characters(core: Tokenizer, text: str) -> list[str]:
    """A text's words (what no merge may cross), each piece of them as one character."""
    words = core.pre_tokenizer.pre_tokenize_str(text)
    return ["".join(chr(_FIRST_CHARACTER + token.id) for token in core.model.tokenize(word)) for word, _ in words]


def _with_core(tokenizer: PreTrainedTokenizerFast, core: Tokenizer) -> PreTrainedTokenizerFast:
    closing = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        additional_special_tokens=[t for t in tokenizer.all_special_tokens if t not in closing],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    made.chat_template = tokenizer.chat_template
    return made
