"""Tiny runs of every method and variant, and the numbers of theirs that are pinned.

Each run makes three updates of random-weight models on `LettersEnv`. What decides its numbers is fixed as far as it can
be: weights come from numpy's generator by parameter name (neither torch's nor transformers' way to initialise matters),
draws from numpy's Philox, and models compute in float64. Rounding then differs between machines, BLAS libraries, thread
counts and batch shapes by about 1e-16 (1e-7 in the rotary angles, which transformers takes in fp32), so that a sampled
token flips with a probability near 1e-4 a run, and trajectories, which are discrete, are the same everywhere.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builders import small_model
from run_tools import toy_config

from collm.models.loading import LoadedModel
from collm.training.trainer import Trainer

PINS = Path(__file__).parent / "pins.json"
UPDATE_COMMAND = ".venv/bin/python scripts/pin_invariants.py {names} --update"

RTOL, ATOL = 1e-5, 1e-8
"""Rounding reaches the pinned numbers at about 1e-7 (fp32 rotary angles, three Adam steps); a wrong estimator changes
them by percents. `ATOL` is for numbers that are 0 but for rounding, such as the mean of centred advantages."""

PER_RUN = """update env_steps episodes inference_calls generated_tokens policy_steps return_mean discounted_return_mean reward_mean
terminated_share dropped_turns kept_mass_mean""".split()
PER_MEMBER = """loss policy_loss value_loss gradient_norm value_mean explained_variance td_error ratio max_ratio approx_kl clip_fraction
value_clip_fraction entropy logprob reference_kl advantage_std group_std""".split()
"""Pinned fields of a row of metrics.jsonl: as they stand, and with the name of an agent or critic behind a slash."""

Pinned = list[dict[str, float]]
"""Pinned fields of each update."""


@dataclass(frozen=True)
class Run:
    """A configuration; `sections` are laid over the common ones, `agent` over every agent's section."""

    method: str
    agents: int = 2
    sections: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)


def _run(method: str, agents: int = 2, agent: Mapping[str, Any] | None = None, **sections: Any) -> Run:
    return Run(method, agents, sections, agent or {})


def _tree(method: str, agents: int = 2, **monte_carlo: Any) -> Run:
    return _run(method, agents, monte_carlo=monte_carlo, algorithm={"advantage_normalization": "off"})


RUNS: dict[str, Run] = {
    # Every method, as its preset has it.
    "collm-cc": _run("collm-cc"),
    "collm-dc": _run("collm-dc"),
    "ac": _run("collm-cc", 1),
    "ma-reinforce": _tree("ma-reinforce"),
    "magrpo": _tree("magrpo"),
    "magrpo-std": _tree("magrpo", samples=3, divide_by_std=True),
    "magrpo-crossed": _tree("magrpo", joint_mode="crossed"),
    "grpo": _tree("magrpo", 1, divide_by_std=True),
    "marloo": _tree("marloo", samples=3),
    "maremax": _tree("maremax", samples=1),
    "maremax-two-samples": _tree("maremax"),
    "maremax-group-max": _tree("maremax", baseline="group_max"),
    # Variants of the estimator.
    "shared-backbone": _run("collm-dc", critic={"shared_backbone": True, "value_clip": 0.05}),
    "q-critic": _run("collm-cc", critic={"kind": "q"}),
    "gae": _run("collm-cc", algorithm={"gae_lambda": 0.7}),
    "n-step": _run("collm-dc", algorithm={"n_step": 2, "turn_weight": "discounted"}),
    "bootstrap-truncated": _run("collm-cc", algorithm={"bootstrap_truncated": True}),
    "target-rate": _run("collm-cc", critic={"target_rate": 0.3, "warmup_updates": 1}),
    "token-ratio-clipped": _run("collm-cc", algorithm={"ratio": "token", "clip_ratio": 0.1, "epochs": 2, "minibatch": 3}),
    "sequence-ratio-epochs": _run("collm-dc", algorithm={"epochs": 2, "advantage_clip": 0.5, "advantage_normalization": "per_turn"}),
    "magrpo-epochs": _run("magrpo", algorithm={"epochs": 2, "minibatch": 5, "advantage_normalization": "off"}),
    "kl-entropy-lora": _run(
        "collm-cc",
        agent={"tuning": "lora", "lora": {"rank": 4, "alpha": 8.0}, "optimizer": {"learning_rate": 5e-3}},
        algorithm={"kl_coef": 0.1, "entropy_coef": 0.01, "epochs": 2},
    ),
    # Variants of the loop.
    "every-turn": _run("collm-cc", algorithm={"update_every": "turn"}),
    "every-five": _run("collm-dc", algorithm={"update_every": 5}),
    "replay": _run("collm-cc", replay={"max_policy_lag": 2, "draw": 8}),
    "replay-newest": _run("collm-dc", replay={"max_policy_lag": 2, "draw": 8, "capacity": 14, "sampling": "newest"}),
    "history-last": _run("collm-cc", history="last", critic={"global_info": "features"}),
    "short-context": _run("collm-dc", context_window=24, critic={"context_window": 80}),
    "nucleus": _run("collm-cc", agent={"temperature": 0.7, "top_p": 0.8, "top_k": 40}, critic={"global_info": "none"}),
}

# Positions learnt (gpt2) and rotary (qwen3), so that neither kind of model is left out.
_ARCHITECTURES = {"agent_0": "gpt2", "agent_1": "qwen3", "critic": "qwen3", "critic_agent_0": "gpt2", "critic_agent_1": "qwen3"}


def measure(name: str, folder: Path) -> Pinned:
    """Play a run, in a new folder, and read off its pinned numbers."""
    run = RUNS[name]
    agents = [f"agent_{i}" for i in range(run.agents)]
    if run.method not in ("collm-cc", "collm-dc") or run.sections.get("critic", {}).get("shared_backbone"):
        critics = []
    else:
        critics = ["critic"] if run.method == "collm-cc" else [f"critic_{a}" for a in agents]
    trainer = Trainer(_config(run), folder, models={member: _model(member) for member in [*agents, *critics]})
    trainer.run()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k in PER_RUN or k.partition("/")[0] in PER_MEMBER} for row in rows]


def differences(name: str, pinned: Sequence[Mapping[str, float]], found: Sequence[Mapping[str, float]]) -> list[str]:
    """What of a run is not as pinned, one line each: run, update, number, both values."""
    lines: list[str] = []
    if len(pinned) != len(found):
        lines.append(f"{name}: {len(pinned)} updates pinned, {len(found)} found")
    for update, (old, new) in enumerate(zip(pinned, found, strict=False), 1):
        for key in {**old, **new}:
            if key not in new or key not in old:
                lines.append(f"{name}, update {update}, {key}: {'not pinned' if key in new else 'is gone'}")
            elif not math.isclose(old[key], new[key], rel_tol=RTOL, abs_tol=ATOL):
                lines.append(f"{name}, update {update}, {key}: pinned {old[key]:.9g}, found {new[key]:.9g}")
    return lines


def read_pins() -> dict[str, Pinned]:
    """The pin file: run name -> pinned fields of each update."""
    return json.loads(PINS.read_text(encoding="utf-8")) if PINS.exists() else {}


def write_pins(pins: Mapping[str, Pinned]) -> None:
    """Write the pin file, runs in the order of `RUNS`, those that are no more left out."""
    ordered = {name: [_rounded(row) for row in pins[name]] for name in RUNS if name in pins}
    PINS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    """To ten digits, a thousand times finer than the tolerance: a new pin file differs from the old where numbers do."""
    return {k: float(f"{v:.10g}") if isinstance(v, float) else v for k, v in row.items()}


def _config(run: Run) -> Any:
    tree = run.method not in ("collm-cc", "collm-dc")
    agent = {"max_new_tokens": 4, "optimizer": {"learning_rate": 5e-4}, **run.agent}
    common = {
        "method": run.method,
        "training": {"updates": 3, "episodes_per_update": 2 if tree else 4, "checkpoint_every": 100},
        "evaluation": {"every": 0, "sampled_episodes": 1, "bootstrap": 100},
    }
    # Solved now and then, so that episodes and trees end early in places.
    env = {"turns": 2 if tree else 3, "letters": "abcdefghijklmnopqrstuvwxyz0123456789", "solved_above": 0.3}
    sections = dict(run.sections)
    critic = {} if tree else {"optimizer": {"learning_rate": 1e-2}, **sections.pop("critic", {})}
    return toy_config([agent] * run.agents, critic, env, **common, **sections)


def _model(member: str) -> LoadedModel:
    loaded = small_model(_ARCHITECTURES[member], dtype=torch.float64)
    with torch.no_grad():
        for name, p in loaded.model.named_parameters():
            rng = np.random.default_rng([zlib.crc32(member.encode()), zlib.crc32(name.encode())])
            # Norms stay 1 and biases 0, give or take a little.
            p.copy_(
                torch.from_numpy(rng.normal(size=p.shape) * 0.15) if p.ndim >= 2 else p + torch.from_numpy(rng.normal(size=p.shape)) * 0.05
            )
    return loaded
