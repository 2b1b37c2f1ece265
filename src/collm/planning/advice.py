"""What to change where a plan does not fit: overrides in order of how little they change, each checked by planning again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from collm.algorithms.registry import has_critics, make_method
from collm.config.draft import Draft
from collm.config.problems import checked
from collm.config.schema import Config, ModelSection
from collm.config.tree import schema_tree
from collm.config.yamlio import parse_value
from collm.errors import CollmError, ConfigError
from collm.planning.records import PHASES, Plan

Planner = Callable[[Config], Plan]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Overrides to be given together, what they cost, and the bytes that the devices which are too small need less."""

    overrides: tuple[str, ...]
    effect: str
    saving: int


@dataclass(frozen=True, slots=True)
class Advice:
    """Every override that helps by itself, and those that are needed together, in order; `plan` is what comes of these."""

    single: tuple[Suggestion, ...]
    together: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Knob:
    """Settings to try one after the other, the gentlest first."""

    steps: tuple[tuple[str, ...], ...]
    effect: str


def advise(config: Config, plan: Plan, planner: Planner) -> Advice:
    """Suggestions for a plan that does not fit."""
    single = [Suggestion(best, knob.effect, _saving(plan, found)) for knob, best, found in _tried(config, plan, planner)]
    chosen: dict[str, str] = {}
    best_config, best_plan = config, plan
    for knob in _knobs(config):
        if best_plan.fits is not False:
            break
        step = _gentlest(best_config, best_plan, knob, planner)
        if step is not None:
            overrides, best_config, best_plan = step
            # A key that was set before is set anew, in its old place.
            chosen |= {o.partition("=")[0]: o for o in overrides}
    ordered = sorted((s for s in single if s.saving > 0), key=lambda s: _place(s, single))
    return Advice(tuple(ordered), tuple(chosen.values()), best_plan)


def overridden(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration with `key.path=value` overrides laid over it. Raises ConfigError where they cannot be used."""
    draft = Draft(schema_tree(config.task.name))
    draft.merge(config.model_dump(), lambda _: "the configuration")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"argument {text!r} is not an override; write key.path=value, such as training.updates=10")
        draft.assign(key.strip(), parse_value(value, f"argument {text}"), f"argument {text}")
    return checked(draft)


def _tried(config: Config, plan: Plan, planner: Planner) -> Iterator[tuple[_Knob, tuple[str, ...], Plan]]:
    for knob in _knobs(config):
        step = _gentlest(config, plan, knob, planner)
        if step is not None:
            yield knob, step[0], step[2]


def _gentlest(config: Config, plan: Plan, knob: _Knob, planner: Planner) -> tuple[tuple[str, ...], Config, Plan] | None:
    """The first of a knob's steps past which nothing more is gained; None where it gains nothing.

    A further step never needs more, so that it is found by halving.
    """
    strongest = _step(config, knob.steps[-1], planner)
    if strongest is None or _excess(strongest[2]) >= _excess(plan):
        return None
    best, least = strongest, _excess(strongest[2])
    low, high = 0, len(knob.steps) - 1
    while low < high:
        middle = (low + high) // 2
        tried = _step(config, knob.steps[middle], planner)
        if tried is not None and _excess(tried[2]) <= least:
            best, high = tried, middle
        else:
            low = middle + 1
    return best


def _step(config: Config, overrides: tuple[str, ...], planner: Planner) -> tuple[tuple[str, ...], Config, Plan] | None:
    try:
        changed = overridden(config, overrides)
        return overrides, changed, planner(changed)
    except CollmError:
        # Not every setting goes with every other: such a step is none.
        return None


def _excess(plan: Plan) -> int:
    """Bytes too many, added up over devices and phases, so that what helps a phase counts although another is as full."""
    return sum(max(0, d.needed(phase) - d.capacity) for d in plan.devices if d.capacity is not None for phase in PHASES)


def _saving(before: Plan, after: Plan) -> int:
    peaks = {d.device: d.peak for d in after.devices}
    return sum(d.peak - peaks.get(d.device, 0) for d in before.devices if d.fits is False)


def _place(suggestion: Suggestion, single: Sequence[Suggestion]) -> int:
    return single.index(suggestion)


def _knobs(config: Config) -> list[_Knob]:
    return [*_same_results(config), *_adapters(config), *_smaller(config)]


def _same_results(config: Config) -> Iterator[_Knob]:
    training = config.training
    if not training.gradient_checkpointing:
        yield _Knob((("training.gradient_checkpointing=true",),), "same results, updates about a third slower")
    longest = max(config.context_window, config.critic.context_window if has_critics(make_method(config)) else 0)
    tokens = [n for n in _halved(training.micro_batch_tokens) if n >= longest] or []
    if training.micro_batch_tokens > longest and longest not in tokens:
        tokens.append(longest)
    if tokens:
        yield _Knob(tuple((f"training.micro_batch_tokens={n}",) for n in tokens), "same results, more and smaller passes")
    rows = _halved(training.episodes_in_flight)
    if rows:
        yield _Knob(tuple((f"training.episodes_in_flight={n}",) for n in rows), "same results, slower generation")


def _adapters(config: Config) -> Iterator[_Knob]:
    full: list[tuple[str, ModelSection]] = [(f"agents.{i}", agent) for i, agent in enumerate(config.agents)]
    method = make_method(config)
    if has_critics(method) and not config.critic.shared_backbone:
        full.append(("critic", config.critic))
    full = [(key, section) for key, section in full if section.tuning == "full"]
    for key, section in reversed(full):
        yield _Knob((_as_lora(key, section),), "trains an adapter in place of all weights")
    if len(full) > 1:
        every = tuple(o for key, section in full for o in _as_lora(key, section))
        yield _Knob((every,), "adapters everywhere; equal models share one base")
    yield from _shared_base(config)


def _shared_base(config: Config) -> Iterator[_Knob]:
    """The critic on an agent's base, which is in memory anyway."""
    method = make_method(config)
    if not has_critics(method):
        return
    if method.name == "collm-dc" and not config.critic.shared_backbone:
        yield _Knob((("critic.shared_backbone=true", "critic.global_info=features"),), "value heads on the agents' own models")
    models = dict.fromkeys(agent.model for agent in config.agents)
    if method.name == "collm-cc":
        for model in models:
            if config.critic.model != model or config.critic.tuning == "full":
                agents = [(f"agents.{i}", a) for i, a in enumerate(config.agents) if a.model == model]
                overrides = [o for key, section in agents if section.tuning == "full" for o in _as_lora(key, section)]
                critic = (f"critic.model={model}", *_as_lora("critic", agents[0][1]), f"critic.device={agents[0][1].device}")
                yield _Knob(((*overrides, *critic),), "critic and agent as two adapters on one base")


def _smaller(config: Config) -> Iterator[_Knob]:
    has_critic = has_critics(make_method(config))
    if config.algorithm.kl_coef > 0 and any(agent.tuning == "full" for agent in config.agents):
        yield _Knob((("algorithm.kl_coef=0",),), "no frozen copies of the agents: changes the loss")
    if has_critic and config.critic.target_rate is not None:
        yield _Knob((("critic.target_rate=null",),), "no slow copy of the critic: changes its targets")
    if has_critic and config.critic.context_window > 512:
        steps = tuple((f"critic.context_window={n}",) for n in _halved(config.critic.context_window) if n >= 512)
        yield _Knob(steps, "the critic reads fewer of the older turns")
    least = 2 * max(agent.max_new_tokens for agent in config.agents)
    windows = [n for n in _halved(config.context_window) if n >= least]
    if windows:
        yield _Knob(tuple((f"context_window={n}",) for n in windows), "agents forget older turns sooner")


def _as_lora(key: str, section: ModelSection) -> tuple[str, ...]:
    # On a CPU bf16 is slow; the base stays fp32 there.
    on_gpu = section.device != "cpu" and (section.device != "auto" or torch.cuda.is_available())
    return (f"{key}.tuning=lora", *((f"{key}.dtype=bfloat16",) if on_gpu else ()))


def _halved(value: int) -> list[int]:
    """Half of it, a quarter ... down to one."""
    found: list[int] = []
    while value > 1:
        value //= 2
        found.append(value)
    return found
