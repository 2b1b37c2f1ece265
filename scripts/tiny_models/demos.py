"""StrBuild dialogues of scripted noisy builders, played in the real environment."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from collm.config.tasks import StrBuildTask
from collm.envs.strbuild.env import StrBuildEnv
from collm.envs.strbuild.glyphs import lay_out
from collm.envs.strbuild.rules import DEFAULT_PALETTES
from tiny_models.builder import Cell, Scene, response
from tiny_models.train import Example

HELD_OUT = frozenset({"ICML", "CLIM"})
_OTHER_BLOCKS = ("cobblestone", "birch_planks", "spruce_planks", "black_concrete", "red_concrete", "blue_wool", "iron_block", "sandstone")
_ROW = re.compile(r"y=(\d+) x ((?:\d+ ?)+)")

Dialogue = list[tuple[str, str]]
"""(observation, response) per turn; with history "last" every turn is a dialogue of its own."""


@dataclass(frozen=True)
class Setting:
    """How one episode is played."""

    task: StrBuildTask
    n_agents: int
    history: Literal["full", "last"]
    text: str


def draw_setting(rng: random.Random, short: bool) -> Setting:
    """Mostly the demo's setting (paper profile, position feedback, two agents); now and then anything else."""
    n_agents = rng.choices([1, 2, 3, 4, 5], [6, 74, 10, 5, 5])[0]
    pool = [*_OTHER_BLOCKS, *(b for palette in DEFAULT_PALETTES for b in palette)]
    palettes = [rng.sample(pool, rng.choice([1, 2, 2, 3])) for _ in range(n_agents)] if rng.random() < 0.08 else None
    task = StrBuildTask(
        profile="comlrl" if rng.random() < 0.12 else "paper",
        feedback=rng.choices(["position", "perfect", "score"], [78, 11, 11])[0],
        world="persistent" if rng.random() < 0.04 else "reset",
        turns=4 if rng.random() < 0.9 else rng.randint(2, 6),
        palettes=palettes,
        max_commands=300 if rng.random() < 0.9 else rng.randint(20, 600),
    )
    weights = [30, 40, 20, 8, 2] if short else [12, 22, 26, 30, 10]
    length = rng.choices([1, 2, 3, 4, 5], weights)[0]
    return Setting(task, n_agents, rng.choices(["full", "last"], [70, 30])[0], draw_string(rng, length))


def draw_string(rng: random.Random, length: int) -> str:
    """Random capitals; the letters of the built-in strings a little more often. Never a held-out string."""
    while True:
        letters = "ICML" if rng.random() < 0.15 else string.ascii_uppercase
        text = "".join(rng.choice(letters) for _ in range(length))
        if text not in HELD_OUT:
            return text


def play(setting: Setting, rng: random.Random, careful: float) -> list[Dialogue]:
    """One episode of scripted builders; every agent's dialogue."""
    env = StrBuildEnv(setting.task, n_agents=setting.n_agents, history=setting.history)
    observations, _ = env.reset(seed=0, options={"task": {"string": setting.text}})
    names = list(env.possible_agents)
    cells = [(x, y, 0) for x, y in sorted(lay_out(setting.text).cells, key=lambda c: (-c[1], c[0]))]
    palettes = setting.task.palettes or DEFAULT_PALETTES
    scenes = {name: Scene(cells, palettes[i], i, setting.n_agents) for i, name in enumerate(names)}
    dialogues: dict[str, Dialogue] = {name: [] for name in names}
    while env.agents:
        actions = {
            name: response(rng, scenes[name], hinted_cells(observations[name]), careful > 0 and rng.random() < careful) for name in names
        }
        for name in names:
            dialogues[name].append((observations[name], actions[name]))
        observations = env.step(actions)[0]
    return list(dialogues.values())


def hinted_cells(observation: str) -> dict[Cell, str]:
    """The blocks that feedback of mode `perfect` asks for; empty for other texts."""
    hint: dict[Cell, str] = {}
    _, found, told = observation.partition("Your wrong cells should be:\n")
    block = ""
    for line in told.split("\n") if found else []:
        row = _ROW.fullmatch(line)
        if row:
            hint.update({(int(x), int(row[1]), 0): block for x in row[2].split()})
        elif line == "Set these cells to air:":
            block = "air"
        elif re.fullmatch(r"[a-z_]+", line):
            block = line
        else:
            break
    return hint


def demonstrations(seed: int, episodes: int, short: bool, careful: float = 0.0) -> list[Dialogue]:
    """Dialogues of at most two agents per episode; short ones are single turns on short strings mostly.

    `careful` is the share of responses without noise.
    """
    rng = random.Random(seed)
    kept: list[Dialogue] = []
    for _ in range(episodes):
        setting = draw_setting(rng, short)
        dialogues = play(setting, rng, careful)
        for dialogue in rng.sample(dialogues, min(2, len(dialogues))):
            if setting.history == "last":
                kept += [[turn] for turn in rng.sample(dialogue, min(2, len(dialogue)))]
            else:
                kept.append(dialogue[:1] if short else dialogue)
    return kept


def encode(dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase) -> Example:
    """The dialogue's tokens by the chat template. Responses are encoded by themselves, as a model's own tokens are.

    Raises ValueError where the template rewrites earlier turns.
    """
    ids: list[int] = []
    written: list[bool] = []
    messages: list[dict[str, str]] = []
    shown = ""
    for observation, answer in dialogue:
        messages.append({"role": "user", "content": observation})
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        if not text.startswith(shown):
            raise ValueError(f"the chat template of {tokenizer.name_or_path} is not append-only")
        prompt = tokenizer.encode(text[len(shown) :], add_special_tokens=False)
        reply = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
        ids += [*prompt, *reply]
        written += [*[False] * len(prompt), *[True] * len(reply)]
        messages.append({"role": "assistant", "content": answer})
        shown = text + answer + str(tokenizer.eos_token)
    return Example(tuple(ids), tuple(written))


def texts_of(dialogues: Sequence[Dialogue]) -> list[str]:
    """All texts, for training a tokenizer."""
    return [text for dialogue in dialogues for turn in dialogue for text in turn]
