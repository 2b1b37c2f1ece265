"""The two tiny models: their shapes, special tokens, chat templates and pre-tokenizers."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers
from transformers import Qwen3Config

TEMPLATE_A = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""`<|user|>{content}<|end|><|assistant|>{content}<|end|>`, nothing between the parts."""

TEMPLATE_B = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- '[SYSTEM]' + message['content'] + '[/SYSTEM]' -}}"
    "{%- elif message['role'] == 'user' -%}{{- '[USER]' + message['content'] + '[/USER]' -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- message['content'] + eos_token -}}"
    "{%- else -%}{{- raise_exception('unknown role ' + message['role']) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""`<s>[USER]{content}[/USER]{content}</s>`: the answer follows the closing tag, so a generation prompt adds nothing."""


@dataclass(frozen=True)
class TinySpec:
    """One model. The first special token is the padding of tiny-a; tiny-b pads with its EOS on purpose."""

    name: str
    vocab_size: int
    extended_vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    head_dim: int
    mlp_size: int
    special_tokens: tuple[str, ...]
    bos: str | None
    eos: str
    pad: str
    template: str
    split_newlines: bool

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """Numbers stand alone; all other text stays whole (tiny-b: one piece per line), so sentences can become tokens."""
        steps: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Split(Regex(r" ?\d+"), "isolated")]
        if self.split_newlines:
            steps.append(pre_tokenizers.Split("\n", "merged_with_next"))
        return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def config(self, vocab_size: int, pad: int, eos: int, bos: int | None) -> Qwen3Config:
        """Plain Qwen3 with as many key-value heads as query heads and tied embeddings."""
        return Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=self.head_dim,
            intermediate_size=self.mlp_size,
            max_position_embeddings=4096,
            rope_theta=10000.0,
            tie_word_embeddings=True,
            attention_dropout=0.0,
            pad_token_id=pad,
            eos_token_id=eos,
            bos_token_id=bos,
            dtype="float32",
        )


TINY_A = TinySpec(
    name="tiny-a",
    vocab_size=1024,
    extended_vocab_size=2304,
    hidden_size=160,
    layers=3,
    heads=4,
    head_dim=40,
    mlp_size=448,
    special_tokens=("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    bos=None,
    eos="<|end|>",
    pad="<|pad|>",
    template=TEMPLATE_A,
    split_newlines=False,
)
TINY_B = TinySpec(
    name="tiny-b",
    vocab_size=896,
    extended_vocab_size=2048,
    hidden_size=128,
    layers=4,
    heads=4,
    head_dim=32,
    mlp_size=384,
    special_tokens=("<s>", "</s>", "[SYSTEM]", "[/SYSTEM]", "[USER]", "[/USER]"),
    bos="<s>",
    eos="</s>",
    pad="</s>",
    template=TEMPLATE_B,
    split_newlines=True,
)
SPECS = {spec.name: spec for spec in (TINY_A, TINY_B)}
