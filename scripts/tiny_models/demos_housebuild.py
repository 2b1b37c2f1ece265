"""HouseBuild dialogues of scripted noisy builders, played in the real environment on houses of the built-in family.

The builders copy rectangles of the prompt into `/fill` lines, in the prompt's order, and sometimes strike the spiders, but
on purpose not well: many rectangles are left out, some lines are wrong, spiders mostly live. A careful response makes no
mistakes: models learn to copy from those, which noise hides.

`python -m tiny_models.demos_housebuild` (in scripts/) prints what they are like.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from collm.config.tasks import HouseBuildTask
from collm.config.tasks.housebuild import HouseBuildFeedback
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.env import HouseBuildEnv
from collm.envs.housebuild.houses import BUILT_IN_ROWS, House, Roof, house_row, layer_rows
from collm.envs.minecraft.fill import DAMAGE_LINE, KILL_LINE
from tiny_models.demos import Dialogue

HELD_OUT = tuple([layer["rows"] for layer in row["target_spec"]["layers"]] for row in BUILT_IN_ROWS[8:10])
"""Layers of the test houses: never built here, whatever the blocks."""
MOST_RECTANGLES = 40
"""In a prompt."""
MOST_LINES = 30
"""In a response."""

_ROOFS: tuple[Roof, ...] = ("gable", "flat", "steep", "x_slope", "hip")
_OTHER_BLOCKS = {
    "C": ("cobblestone", "bricks", "sandstone", "oak_planks", "stone"),
    "O": ("oak_log", "gold_block", "iron_block", "quartz_block"),
    "S": ("oak_stairs", "brick_stairs", "sandstone_stairs"),
    "B": ("glass", "red_wool", "stone", "smooth_stone"),
    "D": ("oak_door", "birch_planks", "sand"),
}
_RECTANGLE = re.compile(r"(?:\d+ ){6}\w+")
_SPIDERS = re.compile(r"Spiders (?:attack every turn|alive): ([\d, ]+)\.|No spiders left\.")
_HINTS = ("should be:", "still fit:")

LEFT_OUT = (0.4, 0.75)
EARLY_STOP = 0.45
WRONG_BLOCK = 0.04
WRONG_NUMBER = 0.06
MALFORMED_LINE = 0.03
ATTACK = 0.3
FOLLOW_HINT = 0.5


@dataclass(frozen=True)
class Setting:
    """How one episode is played."""

    task: HouseBuildTask
    n_agents: int
    history: Literal["full", "last"]
    row: dict[str, Any]


@dataclass
class Builder:
    """One agent: what it may copy, its place in the team, its way to attack; its last rectangles, the spiders it knows of."""

    rectangles: Sequence[str]
    blocks: Sequence[str]
    index: int
    n_agents: int
    attack_line: str
    last: list[str] = field(default_factory=list)
    spiders: int = 0

    def respond(self, rng: random.Random, observation: str, careful: bool) -> str:
        """One response, without a slip if `careful`."""
        hinted = _hinted(observation)
        if hinted and (careful or rng.random() < FOLLOW_HINT):
            chosen = [r for r in _in_order(self.last, hinted) if careful or rng.random() < 0.9]
        else:
            chosen = self._share(rng) if careful else self._some(rng)
        self.last = chosen[:MOST_LINES]
        lines = [f"/fill {r}" if careful else _line(rng, r, self.blocks) for r in self.last]
        return "\n".join([*self._attacks(rng, observation, careful), *lines])

    def _share(self, rng: random.Random) -> list[str]:
        """All rectangles where they are few, every n-th one, or one of n stretches of the list."""
        ways = ("all", "nth", "nth", "stretch") if len(self.rectangles) <= MOST_LINES else ("nth", "nth", "stretch")
        match rng.choice(ways):
            case "nth":
                return list(self.rectangles[self.index :: self.n_agents])
            case "stretch":
                count = len(self.rectangles)
                return [r for i, r in enumerate(self.rectangles) if i * self.n_agents // count == self.index]
            case _:
                return list(self.rectangles)

    def _some(self, rng: random.Random) -> list[str]:
        left_out = rng.uniform(*LEFT_OUT)
        chosen = [r for r in self.rectangles if rng.random() >= left_out] or [rng.choice(self.rectangles)]
        return chosen[: rng.randint(1, len(chosen))] if rng.random() < EARLY_STOP else chosen

    def _attacks(self, rng: random.Random, observation: str, careful: bool) -> list[str]:
        """Strikes, as many as this agent's share of the living spiders, or any number of them; first of all lines."""
        seen = _SPIDERS.search(observation)
        if seen:
            self.spiders = len(seen[1].split(",")) if seen[1] else 0
        if not self.spiders or (not careful and rng.random() >= ATTACK):
            return []
        if self.attack_line == KILL_LINE:
            return [KILL_LINE]
        return [self.attack_line] * (-(-self.spiders // self.n_agents) if careful else rng.randint(1, self.spiders))


def draw_setting(rng: random.Random) -> Setting:
    """Mostly the preset's setting (paper profile, score feedback, two agents, full history); now and then anything else."""
    other: list[HouseBuildFeedback] = ["perfect", "position", "position_modification", "rect_modification", "resource_schedule"]
    task = HouseBuildTask(
        profile="comlrl" if rng.random() < 0.06 else "paper",
        feedback="score" if rng.random() < 0.88 else rng.choice(other),
        world="persistent" if rng.random() < 0.03 else "reset",
        turns=4 if rng.random() < 0.75 else rng.randint(1, 3),
    )
    n_agents = rng.choices([1, 2, 3], [7, 83, 10])[0]
    return Setting(task, n_agents, "full" if rng.random() < 0.85 else "last", draw_row(rng))


def draw_row(rng: random.Random) -> dict[str, Any]:
    """A house of the built-in family: other sizes, roofs and, now and then, blocks. Never a held-out one."""
    while True:
        house = House(
            roof=rng.choice(_ROOFS),
            width=rng.choices([4, 5, 6, 7, 8], [2, 2, 4, 2, 1])[0],
            depth=rng.choices([5, 6, 7, 8], [2, 2, 4, 2])[0],
            walls=rng.choices([1, 2, 3, 4], [2, 3, 4, 1])[0],
            roof_layers=rng.choices([1, 2, 3], [3, 6, 1])[0],
        )
        blocks = {c: rng.choice(ids) for c, ids in _OTHER_BLOCKS.items() if rng.random() < 0.5} if rng.random() < 0.3 else {}
        row = house_row("demonstration", house, blocks=blocks)
        held_out = [layer_rows(house, y) for y in range(house.height)] in HELD_OUT
        if not held_out and len(row_blueprint(row).rectangles) <= MOST_RECTANGLES:
            return row


def play(setting: Setting, rng: random.Random, careful: float) -> tuple[list[Dialogue], list[float]]:
    """One episode: every agent's dialogue, and the reward of each turn."""
    env = HouseBuildEnv(setting.task, setting.n_agents, setting.history)
    observations, _ = env.reset(seed=rng.randrange(2**31), options={"task": setting.row})
    blueprint = row_blueprint(setting.row)
    targets, blocks = [str(r) for r in blueprint.rectangles], list(blueprint.counts)
    attack = DAMAGE_LINE if setting.task.profile == "paper" else KILL_LINE
    builders = {name: Builder(targets, blocks, i, setting.n_agents, attack) for i, name in enumerate(env.possible_agents)}
    dialogues: dict[str, Dialogue] = {name: [] for name in builders}
    rewards: list[float] = []
    while env.agents:
        actions = {name: builder.respond(rng, observations[name], rng.random() < careful) for name, builder in builders.items()}
        for name, action in actions.items():
            dialogues[name].append((observations[name], action))
        observations, reward, *_ = env.step(actions)
        rewards.append(reward[env.possible_agents[0]])
    return list(dialogues.values()), rewards


def housebuild_demonstrations(rng: random.Random, episodes: int, careful: float = 0.0) -> list[Dialogue]:
    """Dialogues of at most two agents per episode; with history "last" up to two single turns of each.

    `careful` is the share of responses without noise.
    """
    kept: list[Dialogue] = []
    for _ in range(episodes):
        setting = draw_setting(rng)
        dialogues, _ = play(setting, rng, careful)
        for dialogue in rng.sample(dialogues, min(2, len(dialogues))):
            kept += [dialogue] if setting.history == "full" else [[turn] for turn in rng.sample(dialogue, min(2, len(dialogue)))]
    return kept


def _hinted(observation: str) -> list[str]:
    """The rectangles that feedback says to place; empty for other texts."""
    found: list[str] = []
    listing = False
    for line in observation.split("\n"):
        if line.endswith(_HINTS):
            listing = True
        elif listing and _RECTANGLE.fullmatch(line):
            found.append(line)
        else:
            listing = False
    return found


def _in_order(*lists: Sequence[str]) -> list[str]:
    """All rectangles once, by y, then z, then x."""

    def place(rectangle: str) -> tuple[int, int, int]:
        x, y, z = map(int, rectangle.split()[:3])
        return y, z, x

    return sorted(dict.fromkeys(r for some in lists for r in some), key=place)


def _line(rng: random.Random, rectangle: str, blocks: Sequence[str]) -> str:
    """A command for the rectangle; now and then with another block, a number off by one, or malformed."""
    *numbers, block = rectangle.split()
    if rng.random() < WRONG_BLOCK:
        block = rng.choice(list(blocks))
    if rng.random() < WRONG_NUMBER:
        i = rng.randrange(6)
        numbers[i] = str(max(0, int(numbers[i]) + rng.choice([-1, 1])))
    if rng.random() < MALFORMED_LINE:
        return rng.choice([f"/fill {' '.join(numbers)}", f"/fill {' '.join(numbers[:5])} {block}", f"/fill {' '.join(numbers)} cobweb"])
    return f"/fill {' '.join(numbers)} {block}"


def _print_statistics(episodes: int, careful: float) -> None:
    rng = random.Random(0)
    rewards: list[float] = []
    prompts: list[str] = []
    responses: list[str] = []
    whole: list[int] = []
    for _ in range(episodes):
        setting = draw_setting(rng)
        dialogues, earned = play(setting, rng, careful)
        if setting.task.profile == "paper":
            rewards += earned
        for dialogue in dialogues:
            prompts.append(dialogue[0][0])
            responses += [response for _, response in dialogue]
            whole.append(sum(len(o) + len(r) for o, r in dialogue))
    print(f"careful={careful}: {episodes} episodes, {len(responses)} responses")
    _describe("reward of a turn (paper)", rewards)
    _describe("lines of a first prompt", [p.count("\n") + 1 for p in prompts])
    _describe("characters of a first prompt", [len(p) for p in prompts])
    _describe("lines of a response", [r.count("\n") + 1 for r in responses])
    _describe("characters of a response", [len(r) for r in responses])
    _describe("characters of a dialogue", whole)


def _describe(name: str, values: Sequence[float]) -> None:
    cuts = statistics.quantiles(values, n=10)
    print(
        f"  {name}: mean {statistics.mean(values):.2f}, deviation {statistics.pstdev(values):.2f}, min {min(values):.2f}, "
        f"10 % {cuts[0]:.2f}, median {cuts[4]:.2f}, 90 % {cuts[8]:.2f}, max {max(values):.2f}"
    )


if __name__ == "__main__":
    for share in (0.0, 1.0):
        _print_statistics(400, share)
