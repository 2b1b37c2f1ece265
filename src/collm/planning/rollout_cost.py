"""A host's memory while it generates: the fullest of the moments that `collm.models.generation` goes through."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from collm.config.schema import Config
from collm.models.sampling import SupportRule
from collm.planning.generation_cost import Generator, cache_bytes_per_token, decode_peak, keeps_rows, prefill_peak, sampling_peak
from collm.planning.placement import HostSpec, agent_section
from collm.planning.workload import Expected, Lengths, Rows, evaluation_rows, lengths, rollout_rows

_SPARE_COLUMNS = 8
"""What a buffer has beyond the longest answer where finished rows are looked for now and then, as on a GPU; on a CPU it is less."""


@dataclass(frozen=True, slots=True)
class GenerationCost:
    """Bytes of keys and values (the batch's buffer, the conversations kept from turn to turn), and of what is made beside them."""

    cache: int
    working: int

    @property
    def total(self) -> int:
        return self.cache + self.working


def generation_cost(config: Config, spec: HostSpec, expected: Expected, generator: Generator) -> GenerationCost:
    """The fullest moment of the rollouts and evaluations of a host with policies."""
    policies = [agent_section(m) for m in spec.policies]
    longest = _longest([lengths(config, agent, expected) for agent in policies])
    rules = [SupportRule(agent.temperature, agent.top_p, agent.top_k) for agent in policies]
    rule = max(rules, key=lambda r: (r.truncates, r.temperature != 1))
    phases = [rollout_rows(config, longest.turns), evaluation_rows(config, longest.turns)]
    moments = [moment for rows in phases for moment in _Moments(config, generator, longest, rule, rows.times(len(policies))).all()]
    return max(moments, key=lambda moment: moment.total)


@dataclass(frozen=True, slots=True)
class _Moments:
    """All rows as long as the longest may be, and all ending at once."""

    config: Config
    generator: Generator
    longest: Lengths
    rule: SupportRule
    rows: Rows

    def all(self) -> list[GenerationCost]:
        return [self._first_prompts(), self._last_prompts(), self._last_answers()]

    def _first_prompts(self) -> GenerationCost:
        buffer = self.rows.first * (self.longest.prompt + self._room)
        working = prefill_peak(self.generator, self._read_together(self.rows.first, self.longest.prompt), self.longest.prompt)
        return GenerationCost(buffer * self._per_token, max(working, self._sampling(self.rows.first)))

    def _last_prompts(self) -> GenerationCost:
        """The conversations so far, and the batch into which they are read: at worst rows of it that have ended are still there."""
        full = self.config.history == "full"
        new = self.longest.feedback if full and self._keeps else self.longest.history - self.longest.response
        cache = self.rows.last * self._whole + self.rows.carried * self._before
        working = prefill_peak(self.generator, self._read_together(self.rows.last, new), new) if self.longest.turns > 1 else 0
        return GenerationCost(cache * self._per_token, working)

    def _last_answers(self) -> GenerationCost:
        """The last tokens, then every row copied out of the batch for whatever comes next: at worst all but one end together."""
        decoding = max(decode_peak(self.generator, self.rows.last, self.longest.history - 1), self._sampling(self.rows.last))
        held = self.rows.last * self._whole * self._per_token
        copies = self.rows.last * self.longest.history * self._per_token if self._keeps else 0
        return GenerationCost(held + copies, 0) if copies >= decoding else GenerationCost(held, decoding)

    @property
    def _per_token(self) -> int:
        return cache_bytes_per_token(self.generator)

    @property
    def _keeps(self) -> bool:
        return keeps_rows(self.generator)

    @property
    def _room(self) -> int:
        return self.longest.response + _SPARE_COLUMNS

    @property
    def _whole(self) -> int:
        """Columns of the last turn's buffer."""
        return self.longest.history - self.longest.response + self._room

    @property
    def _before(self) -> int:
        """Tokens that a conversation brings to the last turn."""
        if not self._keeps:
            return 0
        return (
            self.longest.history - self.longest.response - self.longest.feedback if self.config.history == "full" else self.longest.history
        )

    def _read_together(self, rows: int, tokens: int) -> int:
        """Prompts in one pass: equal ones once, and no more padded tokens than a micro-batch has."""
        return min(-(-rows // self.rows.sharing), max(1, self.config.training.micro_batch_tokens // max(1, tokens)))

    def _sampling(self, rows: int) -> int:
        # Logits are in the type of what the LM head computed.
        dtype = torch.bfloat16 if self.generator.on_gpu else self.generator.dtype
        return sampling_peak(rows, self.generator.architecture.vocabulary, dtype, self.rule)


def _longest(each: list[Lengths]) -> Lengths:
    """One row of a batch is as long as its longest."""
    return Lengths(
        turns=max(x.turns for x in each),
        prompt=max(x.prompt for x in each),
        response=max(x.response for x in each),
        feedback=max(x.feedback for x in each),
        history=max(x.history for x in each),
    )
