"""Trains a byte-level BPE tokenizer whose pieces may be whole sentences."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tiny_models.specs import TinySpec

NUMBERS = 100
NUMBER_WEIGHT = 20000


def train_tokenizer(spec: TinySpec, corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of `spec`. Weighty lone numbers make " 0" ... " 99" (and "0" ... "99") single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = spec.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=list(spec.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [" " + str(n) for n in range(NUMBERS)] * NUMBER_WEIGHT
    tokenizer.train_from_iterator([*corpus, *numbers], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=spec.bos,
        eos_token=spec.eos,
        pad_token=spec.pad,
        additional_special_tokens=[t for t in spec.special_tokens if t not in (spec.bos, spec.eos, spec.pad)],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = spec.template
    return fast
