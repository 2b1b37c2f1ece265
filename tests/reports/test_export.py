"""Builds as files: pictures with the right pixels, functions and schematics with the right blocks."""

from __future__ import annotations

import math

import mcschematic
import nbtlib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops
from reports.played import BUILD, PROGRAM, action, chain, tree
from reports.test_build import house

from collm.errors import DataError, RunFolderError
from collm.reports.build import Build, read_build
from collm.reports.build_colours import colour, shade
from collm.reports.export import picture
from collm.reports.export.block_ids import game_id
from collm.reports.export.files import export_episode
from collm.reports.export.mcfunction import mcfunction_text
from collm.reports.export.picture import cell_size, draw_build
from collm.reports.export.projection import DEPTH
from collm.reports.export.schematic import write_schematic
from collm.types import Episode

CELLS = st.tuples(st.integers(-4, 40), st.integers(0, 20), st.integers(-3, 9))
BUILDS = st.dictionaries(
    CELLS, st.sampled_from(["stone", "planks", "oak_log[axis=x]", "mod:lamp", *(f"{c}_wool" for c in "abcd")]), max_size=40
)
ROW = Build({(0, 0, 0): "stone", (1, 0, 0): "obsidian", (3, 1, 0): "gold_block"}, {(0, 0, 0): None, (1, 0, 0): None, (2, 0, 0): None})
"""Two blocks as asked for, one beside the target, one cell missing."""


# -- pictures ----------------------------------------------------------------------------------------------------------


def row_pixel(image: Image.Image, x: float, y: float, z: float = 1.0) -> tuple[int, ...]:
    """The pixel where point (x, y, z) of the flat build `ROW` should be, z = 1 its front."""
    size, top = picture.LARGEST_CELL, picture.MARGIN + 20
    left = picture.MARGIN + DEPTH * size
    bottom = top + 2 * size
    pixel = image.getpixel((round(left + x * size - z * DEPTH * size), round(bottom - y * size + z * DEPTH * size)))
    assert isinstance(pixel, tuple)
    return pixel


def test_a_flat_build_s_picture_has_its_blocks_in_their_places():
    image = draw_build(ROW, "")
    assert cell_size(ROW) == picture.LARGEST_CELL
    width, height = round((4 + DEPTH) * picture.LARGEST_CELL), round((2 + DEPTH) * picture.LARGEST_CELL)
    legend = 5 * picture.LINE + 20
    assert image.size == (max(width, 200) + 2 * picture.MARGIN + picture.LEGEND_WIDTH, max(height, legend) + 2 * picture.MARGIN + 20)
    front, top, side = 0.94, 1.06, 0.74
    assert row_pixel(image, 0.5, 0.5) == shade(colour("stone"), front)
    assert row_pixel(image, 1.5, 0.5) == shade(colour("obsidian"), front)
    assert row_pixel(image, 3.5, 1.5) == shade(colour("gold_block"), front)
    assert row_pixel(image, 0.5, 1.0, 0.5) == shade(colour("stone"), top)
    assert row_pixel(image, 4.0, 1.5, 0.5) == shade(colour("gold_block"), side)
    assert row_pixel(image, 0.5, 1.5) == picture.PAPER, "nothing stands there"


def test_what_is_missing_and_what_is_wrong_is_red():
    image = draw_build(ROW, "")
    red, green, blue = row_pixel(image, 2.5, 0.5)
    assert (red, green, blue) != picture.PAPER
    assert red > green
    assert red > blue, "a ghost of the missing cell"
    red, green, blue = row_pixel(image, 3.0, 1.5)
    assert red > 200
    assert max(green, blue) < 100, "the edge of a block that is not asked for"
    red, green, blue = row_pixel(image, 1.0, 0.5)
    assert abs(red - green) < 30, "an edge between blocks that are"


def test_a_build_with_depth_is_seen_from_its_low_corner():
    """One block of each side: the nearest is that at low x and z, the front face on the left is the one of low z."""
    image = draw_build(Build({(0, 0, 0): "stone", (1, 0, 1): "gold_block"}), "")
    size = cell_size(Build({(0, 0, 0): "stone", (1, 0, 1): "gold_block"}))
    across, down = size * math.cos(math.pi / 6), size / 2
    # The near lower corner of the box is the lowest point of the drawing, in its middle.
    low = (picture.MARGIN + 2 * across, picture.MARGIN + 20 + 4 * down + size)
    faces = {
        "front": image.getpixel((round(low[0] - across / 2), round(low[1] - down / 2 - size / 2))),
        "side": image.getpixel((round(low[0] + across / 2), round(low[1] - down / 2 - size / 2))),
        "top": image.getpixel((round(low[0]), round(low[1] - size - down))),
        "behind": image.getpixel((round(low[0]), round(low[1] - size - 3 * down))),
    }
    assert faces["front"] == shade(colour("stone"), 0.94)
    assert faces["side"] == shade(colour("stone"), 0.74)
    assert faces["top"] == shade(colour("stone"), 1.06)
    assert faces["behind"] == shade(colour("gold_block"), 1.06)


def test_pictures_repeat_and_large_builds_fit():
    assert ImageChops.difference(draw_build(ROW, "a"), draw_build(ROW, "a")).getbbox() is None
    assert ImageChops.difference(draw_build(ROW, "a"), draw_build(ROW, "b")).getbbox() is not None
    wide = Build({(x, 0, 0): "stone" for x in range(150)})
    assert cell_size(wide) == 6
    assert draw_build(wide, "").width <= picture.WIDEST + 2 * picture.MARGIN + picture.LEGEND_WIDTH


def test_an_empty_build_has_a_picture():
    assert draw_build(Build({}), "turn 1").size == (480, 2 * picture.MARGIN + 20 + picture.LINE)


# -- functions ---------------------------------------------------------------------------------------------------------


def test_a_function_places_every_block_from_the_ground_up():
    build = Build(
        {(1, 2, 0): "stone", (0, 0, 1): "minecraft:glass", (-2, 0, 0): "planks", (0, 0, 0): "oak_log[axis=x]", (0, 2, 0): "mod:lamp"}
    )
    assert mcfunction_text(build, "episode 3,\n turn 1") == (
        "# episode 3, turn 1\n"
        "setblock ~-2 ~0 ~0 minecraft:oak_planks\n"
        "setblock ~0 ~0 ~0 minecraft:oak_log[axis=x]\n"
        "setblock ~0 ~0 ~1 minecraft:glass\n"
        "setblock ~0 ~2 ~0 mod:lamp\n"
        "setblock ~1 ~2 ~0 minecraft:stone\n"
    )
    assert mcfunction_text(Build({}), "none") == "# none\n"


@pytest.mark.parametrize("block", ["Stone", "a b", "", "stone\nkill @a", "mod:a:b", "stone[axis"])
def test_what_is_no_block_id_is_refused(block):
    """A line of its own making would be a command; the game would refuse the whole file."""
    with pytest.raises(DataError, match="is no Minecraft block id"):
        game_id(block)


# -- schematics --------------------------------------------------------------------------------------------------------


def read_sponge(path) -> dict[tuple[int, int, int], str]:
    """A Sponge schematic (version 2) read by its specification: palette, varints in y, z, x order, the offset of its low corner."""
    root = nbtlib.load(path)
    palette = {int(i): str(block) for block, i in root["Palette"].items()}
    width, height, length = (int(root[k]) for k in ("Width", "Height", "Length"))
    low = [int(root["Metadata"][f"WEOffset{axis}"]) for axis in "XYZ"]
    ids, value, shift = [], 0, 0
    for byte in (int(b) & 0xFF for b in root["BlockData"]):
        value, shift = value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            ids.append(value)
            value, shift = 0, 0
    assert len(ids) == width * height * length
    cells = ((x + low[0], y + low[1], z + low[2]) for y in range(height) for z in range(length) for x in range(width))
    return {cell: palette[i] for cell, i in zip(cells, ids, strict=True) if palette[i] != "minecraft:air"}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BUILDS)
def test_a_schematic_reads_back_cell_for_cell(tmp_path, blocks):
    """By the format's specification and by the loader of the library that wrote it."""
    path = write_schematic(Build(blocks), tmp_path, "build")
    expected = {cell: game_id(block) for cell, block in blocks.items()}
    assert read_sponge(path) == expected
    loaded = mcschematic.MCSchematic(str(path))
    states = {cell: loaded.getBlockStateAt(cell) for cell in loaded.getStructure().getBlockStates()}
    assert {cell: state for cell, state in states.items() if state != "minecraft:air"} == expected


def test_the_released_houses_keep_every_block(shared, tmp_path):
    for number in range(10):
        build = house(shared, number)
        found = read_sponge(write_schematic(build, tmp_path, f"house_{number}"))
        assert len(found) == len(build.blocks) >= 148
        assert {cell: block.removeprefix("minecraft:") for cell, block in found.items()} == {
            cell: "oak_planks" if block == "planks" else block for cell, block in build.blocks.items()
        }
        assert draw_build(build, "house").getbbox() is not None


# -- an episode --------------------------------------------------------------------------------------------------------


def test_an_episode_s_builds_and_programs_are_written(tmp_path):
    episode = Episode("Eval 7", None, 0, 0, [action(0, 0.5, details=BUILD), action(1, 1.0, parent=0, details=PROGRAM, truncated=True)])
    files = export_episode(episode, 1, tmp_path / "new" / "folder")
    assert [f.name for f in files] == ["eval_7_turn1.png", "eval_7_turn1.mcfunction", "eval_7_turn1.schem", "eval_7_turn2.py"]
    assert files[1].read_text().splitlines()[0] == "# episode Eval 7, turn 1: reward 0.500"
    build = read_build(BUILD)
    assert build is not None
    assert read_sponge(files[2]) == {cell: f"minecraft:{block}" for cell, block in build.blocks.items()}
    assert Image.open(files[0]).size == draw_build(build, "").size
    assert files[3].read_text() == PROGRAM["program"]


def test_the_paths_of_a_tree_do_not_overwrite_each_other(tmp_path):
    episode = tree()
    for tr in episode.transitions:
        tr.details = {"program": f"x = {tr.reward}"}
    names = [f.name for leaf in (4, 8) for f in export_episode(episode, leaf, tmp_path)]
    assert names == ["0000011_turn1_action0.py", "0000011_turn2_action4.py", "0000011_turn1_action1.py", "0000011_turn2_action8.py"]


def test_an_episode_with_nothing_to_export_says_so(tmp_path):
    with pytest.raises(RunFolderError, match="episode 0000003 has nothing to export: its details hold neither blocks nor a program"):
        export_episode(chain(), 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_block_id_is_told_before_anything_is_written(tmp_path):
    bad = {"blocks": [[0, 0, 0, "Stone"]]}
    episode = Episode("0", None, 0, 0, [action(0, 0.5, details=BUILD), action(1, 1.0, parent=0, details=bad, truncated=True)])
    with pytest.raises(DataError, match="block 'Stone' is no Minecraft block id"):
        export_episode(episode, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"out cannot be written: File exists"):
        export_episode(Episode("0", None, 0, 0, [action(0, 0.5, details=BUILD, truncated=True)]), 0, tmp_path / "out")
