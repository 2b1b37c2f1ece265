"""Shapes of the models that are measured, as their public config.json files give them, and what follows from them by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tuning = Literal["full", "lora"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder with tied embeddings, RMSNorm, rotary positions, grouped heads and a gated MLP."""

    name: str
    family: Literal["qwen3", "qwen2"]
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int = 151_936

    @property
    def matrices(self) -> int:
        """Weights of the layers' linear maps: what a token is multiplied with, the output layer left out."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def head(self) -> int:
        """Weights of the embedding, which are also the output layer's."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        # Qwen3 normalises each head's query and key, Qwen2 adds a bias to queries, keys and values instead.
        own = 2 * self.head_dim if self.family == "qwen3" else self.head_dim * (self.heads + 2 * self.kv_heads)
        return self.matrices + self.head + self.layers * (own + 2 * self.hidden) + self.hidden

    @property
    def step_bytes(self) -> int:
        """Bytes of weights that one decoding step reads in bf16: everything, since the output layer reads the tied embedding."""
        return 2 * self.parameters

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that a token leaves in a bf16 cache."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


QWEN3_06B = Shape("Qwen3-0.6B", "qwen3", 1024, 3072, 28, 16, 8, 128)
QWEN3_17B = Shape("Qwen3-1.7B", "qwen3", 2048, 6144, 28, 16, 8, 128)
QWEN3_4B = Shape("Qwen3-4B", "qwen3", 2560, 9728, 36, 32, 8, 128)
"""Also the shape of Qwen3-4B-Instruct-2507."""
CODER_3B = Shape("Qwen2.5-Coder-3B", "qwen2", 2048, 11008, 36, 16, 2, 128)

TINY = Shape("tiny-qwen3", "qwen3", 64, 128, 2, 4, 2, 16, 1024)
TINY_CODER = Shape("tiny-qwen2", "qwen2", 48, 96, 2, 4, 2, 12, 1024)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: the shapes and lengths of a real run, or of the proof on a CPU."""

    shapes: tuple[Shape, ...]
    aux: Shape
    main: Shape
    copy_bytes: int
    matmul: int
    decode_prompt: int
    decode_tokens: int
    decode_batches: tuple[int, ...]
    update_samples: int
    context: int
    response: int
    prompt_words: int
    feedback_words: int
    in_flight: tuple[int, ...]


REAL = Sizes(
    shapes=(QWEN3_06B, QWEN3_17B, QWEN3_4B),
    aux=CODER_3B,
    main=QWEN3_4B,
    copy_bytes=4 << 30,
    matmul=8192,
    decode_prompt=128,
    decode_tokens=64,
    decode_batches=(1, 16, 64),
    update_samples=16,
    context=512,
    response=256,
    prompt_words=320,
    feedback_words=160,
    in_flight=(16, 32),
)
PROOF = Sizes(
    shapes=(TINY,),
    aux=TINY_CODER,
    main=TINY,
    copy_bytes=16 << 20,
    matmul=256,
    decode_prompt=8,
    decode_tokens=128,
    decode_batches=(1, 4),
    update_samples=4,
    context=12,
    response=6,
    prompt_words=12,
    feedback_words=6,
    in_flight=(4,),
)
