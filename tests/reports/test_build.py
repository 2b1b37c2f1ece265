"""Builds: what the details say, and how they are drawn in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from collm.reports.build import Build, read_build
from collm.reports.build_colours import colour, is_light, shade
from collm.reports.build_view import block_letters, build_view


def printed(build: Build, width: int = 80, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(build_view(build, block_letters(build.kinds), width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def house(shared: Path, number: int) -> Build:
    """A blueprint of the released data, built as asked for."""
    row = json.loads((shared / "data" / "minecraft" / "data.json").read_text())[number]
    cells = {
        (x, layer["y"], z): row["inventory"][c]
        for layer in row["target_spec"]["layers"]
        for z, line in enumerate(layer["rows"])
        for x, c in enumerate(line)
    }
    target = {cell: block for cell, block in cells.items() if block != "air"}
    return Build(target, target)


def test_a_build_is_read_from_details():
    build = read_build({"blocks": [[0, 1, 2, "minecraft:stone"], [3, 0, 0, "oak_planks"]], "target": [[0, 1, 2], [1, 1, 1, "stone"]]})
    assert build == Build({(0, 1, 2): "stone", (3, 0, 0): "oak_planks"}, {(0, 1, 2): None, (1, 1, 1): "stone"})
    assert build.box == ((0, 0, 0), (3, 1, 2))
    assert (build.missing, build.wrong) == (frozenset({(1, 1, 1)}), frozenset({(3, 0, 0)}))
    assert read_build({"blocks": [[0, 0, 0, "stone"]]}) == Build({(0, 0, 0): "stone"}, None)


@pytest.mark.parametrize("blocks", [None, 3, ["stone"], [[0, 0, "stone"]], [[0, 0, 0, 1]], [[0.5, 0, 0, "stone"]]])
def test_details_that_mean_something_else_are_no_build(blocks):
    assert read_build({"blocks": blocks}) is None
    assert read_build({}) is None


def test_a_block_of_another_kind_is_wrong_where_the_target_names_one():
    build = Build({(0, 0, 0): "stone", (1, 0, 0): "stone"}, {(0, 0, 0): "obsidian", (1, 0, 0): None})
    assert (build.missing, build.wrong) == (frozenset(), frozenset({(0, 0, 0)}))


def test_a_flat_build_is_drawn_from_the_front():
    build = read_build(
        {
            "blocks": [[0, 0, 0, "oak_planks"], [1, 0, 0, "stone"], [2, 2, 0, "stone"], [6, 0, 0, "obsidian"]],
            "target": [[0, y, 0] for y in range(3)] + [[1, 0, 0], [6, 0, 0]],
        }
    )
    assert build is not None
    assert printed(build) == [
        "front, z=0           s  stone         2",
        "y=2  □ · s!· · · ·   o  oak_planks    1",
        "y=1  □ · · · · · ·   b  obsidian      1",
        "y=0  o s · · · · b   □  missing       2",
        "x    0         5      ! not asked for 1",
    ]


def test_without_a_target_nothing_is_missing_or_wrong():
    shown = printed(Build({(0, 0, 0): "stone", (1, 1, 0): "oak_log"}))
    assert shown == ["front, z=0  o  oak_log 1", "y=1  · o    s  stone   1", "y=0  s ·", "x    0"]


def test_a_build_with_depth_is_drawn_layer_by_layer():
    build = Build({(0, 0, 0): "stone", (1, 0, 1): "glass", (0, 1, 0): "stone"}, {(0, 0, 0): "stone", (0, 1, 1): "glass"})
    assert printed(build) == [
        "layer y=0  layer y=1  s  stone         2",
        "z=0  s ·   z=0  s!·   g  glass         1",
        "z=1  · g!  z=1  g?·    ? missing       1",
        "x    0     x    0      ! not asked for 2",
    ]


def test_a_build_wider_than_the_page_goes_on_below():
    build = Build({(x, 0, 0): "stone" for x in range(23)})
    assert printed(build, width=29) == [
        "front, z=0, x 0 to 11",
        "y=0  s s s s s s s s s s s s",
        "x    0         5         10",
        "front, z=0, x 12 to 22",
        "y=0  s s s s s s s s s s s",
        "x          15        20",
        "s  stone 23",
    ]


def test_nothing_built_and_everything_missing():
    assert printed(Build({})) == ["nothing was built"]
    assert printed(Build({}, {(0, 0, 0): "stone"}))[1:] == ["y=0  s?      ? missing       1", "x    0       ! not asked for 0"]
    assert printed(Build({}, {(0, 0, 0): None}))[:3] == ["front, z=0  □  missing       1", "y=0  □       ! not asked for 0", "x    0"]


def test_letters_are_the_blocks_own_where_they_can_be():
    letters = block_letters(["stone", "oak_planks", "obsidian", "sandstone", "stone"])
    assert letters == {"oak_planks": "o", "obsidian": "b", "sandstone": "s", "stone": "t"}
    many = block_letters([f"{i:03d}" for i in range(70)])
    assert len(set(many.values())) == 63, "letters and digits once each, then ?"


def test_cells_have_their_block_s_colour_on_a_terminal():
    build = Build({(0, 0, 0): "stone"})
    shown = printed(build, force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;0;0;0;48;2;136;136;136ms\x1b[0m" in shown[1]


def test_colours():
    assert colour("oak_planks") == (184, 148, 95)
    assert colour("light_gray_wool") == (150, 150, 142), "not gray's"
    assert colour("mangrove_planks") == (176, 138, 90)
    assert colour("some_thing") == colour("some_thing") != colour("some_other_thing")
    assert shade((100, 200, 10), 1.5) == (150, 255, 15)
    assert is_light(colour("white_concrete"))
    assert not is_light(colour("obsidian"))


def test_the_blocks_of_both_minecraft_tasks_can_be_told_apart():
    """By 20 or more in some channel, each from each."""
    blocks = ["oak_planks", "stone", "white_concrete", "obsidian", "glass", "bricks", "red_wool", "gold_block", "glowstone", "quartz_block"]
    blocks += ["stone_stairs", "stone_bricks"]
    for i, a in enumerate(blocks):
        for b in blocks[i + 1 :]:
            assert max(abs(p - q) for p, q in zip(colour(a), colour(b), strict=True)) >= 20, (a, b)


def test_the_released_houses_fit_on_a_page(shared):
    for number in range(10):
        shown = printed(house(shared, number), width=98)
        assert max(map(len, shown)) <= 98
        assert not any("?" in line or "!" in line for line in shown[:-2])
