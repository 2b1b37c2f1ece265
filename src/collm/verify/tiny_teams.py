"""Random language models of a thousand weights in float64, with tokenizers of two to four tokens, made on the spot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel, PreTrainedTokenizerFast

from collm.models.loading import LoadedModel
from collm.models.seeds import derive_seed
from collm.verify.dec_pomdp import EOS, AgentSpec, DecPomdp

CONTEXT_WINDOW = 32
"""C of every lab agent; the longest history of a lab problem has fewer tokens."""
CRITIC_WINDOW = 640
CONTENTS_ONLY = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
"""A chat template that adds nothing, so that prompts need no tokens beyond the agents' own."""


def lab_tokenizer(spec: AgentSpec) -> PreTrainedTokenizerFast:
    """One token per character, ids in order of `spec.tokens`."""
    vocabulary = {token: i for i, token in enumerate(spec.tokens)}
    # What is not in the vocabulary becomes a letter; no text that is ever fed has such characters.
    core = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=spec.letters[0]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    core.decoder = decoders.Fuse()
    padding = {"pad_token": EOS} if spec.pad_is_eos else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS, **padding)
    tokenizer.chat_template = CONTENTS_ONLY
    return tokenizer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, for critics."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="Ċ", pad_token="Ċ")


def tiny_model(vocabulary: int, eos_id: int, window: int, seed: int) -> PreTrainedModel:
    """GPT-2 of one layer and eight dimensions: all its arithmetic is in float64, which no RMSNorm of transformers is."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=window,
        initializer_range=0.6,
        bos_token_id=eos_id,
        eos_token_id=eos_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    return model.eval()


@dataclass(frozen=True, slots=True)
class Cast:
    """A problem and the live models of its agents and critics, by member name."""

    problem: DecPomdp
    live: dict[str, LoadedModel]

    def model(self, agent: int) -> PreTrainedModel:
        return self.live[self.problem.names[agent]].model

    def parameters(self, agent: int) -> list[torch.nn.Parameter]:
        return list(self.model(agent).parameters())


def make_cast(problem: DecPomdp) -> Cast:
    """Models for every agent, a central critic and a critic per agent, each a function of the problem's name."""
    live: dict[str, LoadedModel] = {}
    for name, spec in zip(problem.names, problem.agents, strict=True):
        model = tiny_model(len(spec.tokens), spec.eos_id, CONTEXT_WINDOW, derive_seed(problem.name, name) % 2**31)
        live[name] = LoadedModel(model, lab_tokenizer(spec))
    for name in ["critic", *(f"critic_{agent}" for agent in problem.names)]:
        tokenizer = byte_tokenizer()
        model = tiny_model(len(tokenizer), 0, CRITIC_WINDOW, derive_seed(problem.name, name) % 2**31)
        live[name] = LoadedModel(model, tokenizer)
    return Cast(problem, live)


def perturb(cast: Cast, size: float) -> None:
    """Move every agent's weights, as optimizer steps would: data sampled before is stale after."""
    for name in cast.problem.names:
        generator = torch.Generator().manual_seed(derive_seed(cast.problem.name, name, "moved") % 2**31)
        with torch.no_grad():
            for p in cast.live[name].model.parameters():
                p.add_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
