"""Settings of StrBuild (tasks.md section 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from collm.config.tasks.base import DialogueSection, one_per_agent


class StrBuildTask(DialogueSection):
    """StrBuild: agents place blocks that spell a string (H = 4)."""

    name: Literal["strbuild"] = Field(default="strbuild", description="the task")
    profile: Literal["paper", "comlrl"] = Field(
        default="paper", description="reward numbers: the paper's, or the released code's to the last digit"
    )
    turns: int = Field(default=4, ge=1, description="H, the turn limit")
    feedback: Literal["position", "perfect", "score"] = Field(default="position", description="what the agents are told after a turn")
    world: Literal["reset", "persistent"] = Field(default="reset", description="each turn starts from an empty world, or from the last one")
    palettes: list[list[str]] | None = Field(
        default=None, description="block ids per agent; null = the task's own palettes (up to 5 agents)"
    )
    max_commands: int = Field(default=300, ge=1, description="accepted commands per turn, split over the agents (remainder to the first)")
    coverage_weight: float = Field(default=2.0, description="weight of covered target cells / target cells")
    extra_weight: float = Field(default=1.5, description="weight of extra blocks / N_E")
    adjacency_weight: float | None = Field(
        default=None, description="w_adj, weight of side-sharing pairs with equal texture; null = the profile's"
    )
    palette_weight: float | None = Field(
        default=None, description="w_pal, per agent whose whole palette does not appear; null = the profile's"
    )
    extra_cells: Literal["target", "non_target"] | None = Field(
        default=None, description="N_E: target cells or the box's other cells; null = the profile's"
    )
    show_target: bool | None = Field(default=None, description="show the target grid in turn 1; null = the profile's")
    solved_above: float = Field(default=1.9, description="a score above this ends the episode as solved")

    def check_agents(self, n_agents: int) -> None:
        one_per_agent("palettes", "palettes", None if self.palettes is None else len(self.palettes), n_agents)
