"""The checkpoint of the comparison: a tiny Qwen3 with random weights that never ends a response before its limit.

Its tokenizer makes one token of every character, so that what was sampled, decoded and encoded again is the same ids, in
either library; and no response has white space, so that nobody's stripping shortens one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, EOS = 0, 1
NEVER = 4
"""Ids below this are never sampled: the specials, newline and space."""
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
_STEADY = 0.4
"""The first number of every token's embedding. No layer writes there, so that it stays positive in the last hidden state."""


def characters(vocabulary: int) -> list[str]:
    """One per id: controls for the specials, white space, printable ASCII, then CJK and private-use ones."""
    blocks = [range(33, 127), range(0x4E00, 0xA000), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)]
    found = ["\x02", "\x03", "\n", " ", *(chr(code) for block in blocks for code in block)]
    if len(found) < vocabulary:
        raise ValueError(f"at most {len(found)} ids, not {vocabulary}")
    return found[:vocabulary]


def make_checkpoint(folder: Path, vocabulary: int) -> Path:
    """Write the checkpoint into `folder` unless it is there; returns the folder."""
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        make_tokenizer(vocabulary).save_pretrained(folder)
        model = make_model(vocabulary)
        # All the vocabulary, no filter: generation configs of transformers 4 default to top_k 50.
        model.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD, do_sample=True, top_k=0, top_p=1.0, temperature=1.0)
        model.save_pretrained(folder)
        (folder / "done").touch()
    return folder


def make_model(vocabulary: int) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    settings: dict[str, Any] = dict(
        vocab_size=vocabulary,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=None,
        attn_implementation="sdpa",
        **SHAPE,
    )
    model = Qwen3ForCausalLM(Qwen3Config(**settings))
    body: Any = model.model
    with torch.no_grad():
        embedding = body.embed_tokens.weight
        embedding[:, 0] = _STEADY
        # Their logits are lower than any other's by far wherever the last token is none of them; no prompt ends in white space.
        embedding[:NEVER, 0] = -20.0
        for layer in body.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    return model


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    pieces = characters(vocabulary)
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=pieces[PAD]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(pieces[i], special=True) for i in (PAD, EOS)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pieces[PAD],
        eos_token=pieces[EOS],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    # The bare messages: what comlrl feeds its models.
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return fast
