"""Methods by name."""

from __future__ import annotations

from collm.algorithms.collm_cc import CoLLMCC
from collm.algorithms.collm_dc import CoLLMDC
from collm.algorithms.method import ActorCriticMethod

METHODS: dict[str, ActorCriticMethod] = {m.name: m for m in (CoLLMCC(), CoLLMDC())}
