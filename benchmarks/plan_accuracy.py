"""How near `collm plan` comes: trains random Qwen3 models on this machine and compares the process's peak with the plan.

Each case runs in a process of its own: two updates and their evaluations through `collm.Trainer`, on dialogues whose lengths
are known. Compared are the peak of resident memory and the plan's, each less what the process held before anything was loaded.

    python benchmarks/plan_accuracy.py [--out FILE] [CASE ...]

All cases together are written to benchmarks/results/plan_accuracy.json. The last line of output is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

ROOT = Path(__file__).parent.parent
RESPONSE = 32
"""Tokens of every response but the few that end early by chance."""


@dataclass(frozen=True)
class Case:
    """A team of equal random models and a dialogue: `prompt` tokens, then `turns` responses with `feedback` tokens between."""

    hidden: int
    layers: int
    vocabulary: int
    prompt: int = 256
    feedback: int = 32
    turns: int = 2
    method: str = "collm-cc"
    tuning: str = "full"
    kl: float = 0.0
    checkpointing: bool = False
    episodes: int = 6
    micro_batch_tokens: int = 2048
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def history(self) -> int:
        return self.prompt + self.turns * RESPONSE + (self.turns - 1) * self.feedback


CASES = {
    "cc-full-320": Case(512, 6, 320),
    "cc-full-32k": Case(256, 6, 32000),
    "dc-full-320": Case(384, 6, 320, method="collm-dc"),
    "dc-full-32k": Case(256, 4, 32000, method="collm-dc"),
    "cc-full-kl-32k": Case(256, 6, 32000, kl=0.01),
    "cc-full-checkpointing-32k": Case(384, 8, 32000, checkpointing=True),
    "cc-lora-320": Case(512, 8, 320, tuning="lora"),
    "cc-lora-32k": Case(384, 8, 32000, tuning="lora"),
    "cc-lora-kl-32k": Case(512, 6, 32000, tuning="lora", kl=0.01),
    "dc-lora-32k": Case(512, 4, 32000, method="collm-dc", tuning="lora"),
    "magrpo-full-32k": Case(256, 6, 32000, method="magrpo", episodes=2),
    "cc-wide-32k": Case(768, 4, 32000, micro_batch_tokens=4096, episodes=12),
}


class Dialogue(ParallelEnv[str, str, str]):
    """Prompts of a fixed number of characters, a reward that depends on what was written."""

    def __init__(self, prompt: int, feedback: int, turns: int) -> None:
        self.metadata = {"name": "dialogue_v0"}
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self._lengths = [prompt] + [feedback] * turns
        self._turns, self._turn = turns, 0

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        self._turn, self.agents = 0, list(self.possible_agents)
        self._rng = np.random.default_rng(seed)
        return self._observations(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        self._turn += 1
        reward = sum(map(ord, "".join(actions.values()))) % 97 / 97
        over, agents = self._turn >= self._turns, self.agents
        if over:
            self.agents = []
        return (
            self._observations(),
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {a: {} for a in agents},
        )

    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return {"text": f"turn {self._turn}", "features": np.zeros(1, dtype=np.float32)}

    def _observations(self) -> dict[str, str]:
        length = self._lengths[self._turn]
        return {a: "".join(map(chr, self._rng.integers(97, 123, length))) for a in self.possible_agents}


def configuration(case: Case, model: str) -> dict[str, Any]:
    """The run's settings. Windows are as long as the dialogues, so that nothing is dropped and the plan knows the lengths."""
    section = {"model": model, "tuning": case.tuning, "device": "cpu", "optimizer": {"learning_rate": 1e-5}}
    joint = 2 * case.history + 512
    return {
        "method": case.method,
        "context_window": case.history + 64,
        "task": {"name": "custom", "env": "plan_accuracy:Dialogue"},
        "agents": [{**section, "max_new_tokens": RESPONSE}, {**section, "max_new_tokens": RESPONSE}],
        "critic": {**section, "context_window": joint},
        "algorithm": {"kl_coef": case.kl},
        "training": {
            "updates": 2,
            "episodes_per_update": case.episodes,
            "episodes_in_flight": case.episodes,
            "micro_batch_tokens": case.micro_batch_tokens,
            "gradient_checkpointing": case.checkpointing,
        },
        "evaluation": {"every": 0, "sampled_episodes": case.episodes, "bootstrap": 100},
        "logging": {"tensorboard": False},
        **case.extra,
    }


def make_model(case: Case, folder: Path) -> None:
    """Random weights and a tokenizer of one token per character, as a Hugging Face folder."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    letters = [chr(c) for c in [10, *range(32, 127)]]
    symbols = [*special, *letters, *map(chr, range(0x20000, 0x20000 + case.vocabulary - len(special) - len(letters)))]
    core = Tokenizer(models.WordLevel({s: i for i, s in enumerate(symbols)}, unk_token=" "))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?m)(.|\n)"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=special[0], pad_token=special[0], additional_special_tokens=special[1:]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}<|assistant|>"
    )
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        num_hidden_layers=case.layers,
        num_attention_heads=case.hidden // 64,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=3 * case.hidden,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(shape, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(name: str, model: str) -> None:
    """Train a case in this process and print the bytes it took beyond those at the start."""
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401

    from collm.config.load import config_from
    from collm.training.trainer import Trainer

    case = CASES[name]
    config = config_from(configuration(case, model))
    before = _status("VmRSS")
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(config, Path(run), env=lambda: Dialogue(case.prompt, case.feedback, case.turns), rows=([None], [None]))
        loaded = _status("VmHWM") - before
        # What loading took of the page cache is the kernel's to take back.
        Path("/proc/self/clear_refs").write_text("5")
        trainer.run()
    print(json.dumps({"loaded": loaded, "peak": _status("VmHWM") - before, "before": before}))


def compare(name: str, folder: Path) -> dict[str, Any]:
    """A case's measured peak beside the planned one."""
    from collm.config.load import config_from
    from collm.planning.predict import predict
    from collm.planning.workload import Expected

    case = CASES[name]
    make_model(case, folder)
    done = subprocess.run([sys.executable, __file__, "--measure", name, str(folder)], check=True, capture_output=True, text=True, cwd=ROOT)
    measured = json.loads(done.stdout.splitlines()[-1])
    config = config_from(configuration(case, str(folder)))
    (device,) = predict(config, lambda _: None, "cpu", Expected(case.history, case.turns)).devices
    planned = device.peak - measured["before"]
    phases = {phase: device.needed(phase) - measured["before"] for phase in ("rollout", "update", "step", "export")}
    error = planned / measured["peak"] - 1
    print(f"{name:28} planned {planned / 1e6:7.0f} MB  measured {measured['peak'] / 1e6:7.0f} MB  error {error:+.1%}", flush=True)
    return {"case": name, "planned": planned, "measured": measured["peak"], "error": error, "before": measured["before"], "phases": phases}


def main(cases: Iterable[str], out: Path | None) -> None:
    rows = []
    for name in cases:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(name, Path(folder)))
    worst = max(abs(row["error"]) for row in rows)
    mean = sum(abs(row["error"]) for row in rows) / len(rows)
    result = {"worst_error": worst, "mean_error": mean, "cases": rows, "machine": _machine(), "date": datetime.now(UTC).date().isoformat()}
    if out is not None:
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"worst_error": worst, "mean_error": mean, "cases": {row["case"]: round(row["error"], 3) for row in rows}}))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _machine() -> dict[str, Any]:
    import torch
    import transformers

    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {
        "cpu": next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), platform.processor()),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "malloc": f"{platform.libc_ver()[0]} {platform.libc_ver()[1]}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "MODEL"))
    given = parser.parse_args()
    if given.measure is not None:
        measure(*given.measure)
    else:
        main(given.cases or CASES, given.out or (None if given.cases else ROOT / "benchmarks" / "results" / "plan_accuracy.json"))
