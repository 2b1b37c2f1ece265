"""Small models made on the spot: real architectures and real tokenizers, random weights."""

from __future__ import annotations

from functools import partial

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from collm.models.loading import LoadedModel

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}<|assistant|>"
)


def byte_tokenizer(pad_is_eos: bool = False, chat_template: str | None = CHAT, padding_side: str = "right") -> PreTrainedTokenizerFast:
    """One token per byte, plus special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        pad_token="<|end|>" if pad_is_eos else "<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side=padding_side,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def small_model(
    architecture: str = "qwen3", seed: int = 0, dtype: torch.dtype = torch.float32, spread: float = 0.15, **tokenizer_args
) -> LoadedModel:
    """A random causal LM of about 50k parameters. `spread` is the deviation of its weights: larger = less uniform."""
    tokenizer = byte_tokenizer(**tokenizer_args)
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "initializer_range": spread,
        "max_position_embeddings": 4096,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    configs = {
        "qwen3": lambda: Qwen3Config(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, **common),
        "llama": lambda: LlamaConfig(num_key_value_heads=4, **common),
        "gpt2": lambda: GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=4096,
            initializer_range=spread,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.eos_token_id,
        ),
        # Soft-caps its logits and slides its attention window on every other layer.
        "gemma2": lambda: Gemma2Config(num_key_value_heads=2, head_dim=8, sliding_window=16, final_logit_softcapping=5.0, **common),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(configs[architecture](), dtype=dtype)
    model.eval()
    if dtype == torch.float64:
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                # transformers normalises in fp32 whatever the model's type; a reference in fp64 needs all of it in fp64.
                module.forward = partial(_rms_norm, module)
    return LoadedModel(model, tokenizer)


def _rms_norm(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    gemma = type(module).__name__.startswith("Gemma")
    weight, eps = (1 + module.weight, module.eps) if gemma else (module.weight, module.variance_epsilon)
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
