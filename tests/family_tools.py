"""Small random models of the families whose layers collm computes itself in places."""

from __future__ import annotations

import torch
from builders import small_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

COMMON = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
LONG = {"max_position_embeddings": 4096, "initializer_range": 0.2}
ROTATIONS = {
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "linear": {"rope_type": "linear", "factor": 2.0},
}


def made(config, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def rotated(kind: str):
    parameters = {"rope_theta": 1e4, "original_max_position_embeddings": 512, **ROTATIONS[kind]}
    return made(LlamaConfig(num_key_value_heads=1, rope_parameters=parameters, **COMMON, **LONG))


MODELS = {
    "qwen3": lambda: small_model("qwen3").model,
    "llama": lambda: small_model("llama").model,
    "qwen2, biases": lambda: made(Qwen2Config(num_key_value_heads=2, **COMMON, **LONG)),
    "llama, biases": lambda: made(LlamaConfig(num_key_value_heads=2, attention_bias=True, mlp_bias=True, **COMMON, **LONG)),
    "llama, gelu": lambda: made(LlamaConfig(num_key_value_heads=2, hidden_act="gelu", **COMMON, **LONG)),
    **{f"rotations: {kind}": (lambda kind=kind: rotated(kind)) for kind in ROTATIONS},
}


@torch.no_grad()
def shaken(model: PreTrainedModel) -> PreTrainedModel:
    """Norm weights and biases begin at 1 and 0, where a mistake would not show."""
    for p in model.parameters():
        p.add_(torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(p.numel())), alpha=0.05)
    return model
