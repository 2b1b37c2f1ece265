"""The checkpoint of the comparison: a tiny Qwen3 with random weights that never ends a response before its limit.

Its tokenizer is byte-level without merges, so that a prompt has as many tokens as characters in either library, and every id
of the vocabulary decodes to text.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, EOS = 0, 1
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


def make_checkpoint(folder: Path, vocabulary: int) -> Path:
    """Write the checkpoint into `folder` unless it is there; returns the folder."""
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _tokenizer(vocabulary).save_pretrained(folder)
        model = _model(vocabulary)
        # All the vocabulary, no filter: generation configs of transformers 4 default to top_k 50.
        model.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD, do_sample=True, top_k=0, top_p=1.0, temperature=1.0)
        model.save_pretrained(folder)
        (folder / "done").touch()
    return folder


def _model(vocabulary: int) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=None,
        rope_theta=1e4,
        attn_implementation="sdpa",
        **SHAPE,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[:, 0] = _STEADY
        # Logits of these two are lower than any other's by far: responses are as long as they may be, in either library.
        embedding[[PAD, EOS], 0] = -100.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    return model


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    pieces = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [f"Ġ{i:x}" for i in range(vocabulary - len(pieces))]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True), AddedToken("<eos>", special=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", model_max_length=4096)
    # The bare messages: what comlrl feeds its models.
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return fast
