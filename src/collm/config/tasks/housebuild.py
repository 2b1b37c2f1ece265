"""Settings of HouseBuild (tasks.md section 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collm.config.contradiction import Contradiction
from collm.config.tasks.base import DialogueSection, one_per_agent

HouseBuildFeedback = Literal["score", "perfect", "position", "position_modification", "rect_modification", "resource_schedule"]


class HouseBuildTask(DialogueSection):
    """HouseBuild: agents fill boxes with blocks to build a house, while spiders attack (H = 4)."""

    name: Literal["housebuild"] = Field(default="housebuild", description="the task")
    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    turns: int = Field(default=4, ge=1, description="H, the turn limit")
    feedback: HouseBuildFeedback = Field(default="score", description="what the agents are told after a turn")
    shown_cells: int = Field(default=20, ge=1, description="wrong cells that feedback position_modification lists")
    world: Literal["reset", "persistent"] = Field(default="reset", description="each turn starts from an empty world, or from the last one")
    palettes: list[list[str]] | None = Field(default=None, description="block ids per agent; null = every agent has all of the blueprint's")
    max_commands: int = Field(default=600, ge=1, description="accepted commands per turn, split over the agents (remainder to the first)")
    resource_slack: float = Field(
        default=0.5, ge=0, description="s: each agent may place ceil(count/n) + floor(s count/n) of a block in a turn"
    )
    score: Literal["coverage", "match"] | None = Field(
        default=None,
        description="coverage_weight C - extra_weight E, or match_weight x equal cells (air included) / cells; null = the profile's",
    )
    coverage_weight: float = Field(default=2.0, description="weight of target blocks that are right / target blocks (score: coverage)")
    extra_weight: float = Field(default=1.5, description="weight of wrong or extra blocks / target blocks (score: coverage)")
    match_weight: float = Field(default=1.0, description="weight of cells equal to the target / cells (score: match)")
    spider_weight: float | None = Field(default=None, description="weight of min(1, damage / hp); null = the profile's")
    spiders: int = Field(default=3, ge=0, description="spiders, where the row does not list them")
    spider_attack_min: int = Field(default=1, ge=0, description="smallest attack of a spider, per turn")
    spider_attack_max: int = Field(default=3, ge=0, description="largest attack of a spider, per turn")
    spider_hp: int = Field(default=1, ge=1, description="attack commands that a spider takes")
    player_hp: int = Field(default=5, description="health of every player, where the row does not give it")
    spider_draw: Literal["episode", "run"] | None = Field(
        default=None, description="draw attacks by the episode's seed, or once by spider_seed; null = the profile's"
    )
    spider_seed: int = Field(default=0, ge=0, description="seed of the attacks that are drawn once per run")
    spiders_last: bool | None = Field(
        default=None, description="damage and dead spiders last over the turns, or every turn starts anew; null = the profile's"
    )
    spiders_min_agents: int | None = Field(default=None, ge=1, description="smaller teams meet no spiders; null = the profile's")
    kill_reach: Literal["one", "all"] | None = Field(
        default=None, description="an attack command strikes one spider, or drives all away; null = the profile's"
    )
    damage_command: bool | None = Field(default=None, description="/damage is an attack beside /kill; null = the profile's")
    ends_when_built: bool | None = Field(
        default=None, description="an episode ends as solved once every cell is right; null = the profile's"
    )

    @model_validator(mode="after")
    def _attacks_are_a_range(self) -> HouseBuildTask:
        if self.spider_attack_min > self.spider_attack_max:
            raise Contradiction(
                f"spider_attack_min={self.spider_attack_min} is above spider_attack_max={self.spider_attack_max}; swap them",
                "spider_attack_min",
                "spider_attack_max",
            )
        return self

    def check_agents(self, n_agents: int) -> None:
        one_per_agent("palettes", "palettes", None if self.palettes is None else len(self.palettes), n_agents)
