"""Blueprints, the houses made from parameters, and rectangles (tasks.md section 3, HouseBuild)."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.config.tasks import HouseBuildTask
from collm.envs.data import all_rows, load_rows
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.houses import BUILT_IN_ROWS, House, house_row, layer_rows
from collm.envs.housebuild.rectangles import rectangles
from collm.envs.minecraft.fill import Fill
from collm.errors import DataError


def test_the_ten_built_in_houses_equal_the_released_ones_cell_for_cell(shared):
    released = json.loads((shared / "data" / "minecraft" / "data.json").read_text(encoding="utf-8"))
    assert len(BUILT_IN_ROWS) == len(released) == 10
    for ours, theirs in zip(BUILT_IN_ROWS, released, strict=True):
        assert {k: v for k, v in ours.items() if k != "bbox"} == {k: v for k, v in theirs.items() if k != "bbox"}
        mine, its = row_blueprint(ours), row_blueprint(theirs)
        assert (mine.cells, mine.box, mine.counts) == (its.cells, its.box, its.counts)


@pytest.mark.parametrize(("name", "rows", "rectangles"), [("data.json", 10, 37), ("one.json", 1, 39), ("one2.json", 1, 37)])
def test_any_blueprint_file_of_that_format_loads(shared, name, rows, rectangles):
    task = HouseBuildTask(data=str(shared / "data" / "minecraft" / name))
    loaded = all_rows(task)
    assert len(loaded) == rows
    assert len(row_blueprint(loaded[0]).rectangles) == rectangles


def test_rows_0_to_8_train_and_8_to_10_test():
    train, test = load_rows(HouseBuildTask())
    assert [row["variant"] for row in test if row] == ["hip_clear", "hip_north"]
    assert len(train) == 8


@pytest.mark.parametrize(
    ("row", "stairs", "bricks", "air", "rectangles"),
    [(0, 36, 54, 122, 37), (1, 12, 114, 86, 33), (4, 24, 42, 146, 35), (6, 54, 58, 100, 37), (8, 30, 38, 144, 39)],
)
def test_blocks_and_rectangles_of_each_roof(row, stairs, bricks, air, rectangles):
    count = BUILT_IN_ROWS[row]["count"]
    assert count == {"C": 68, "O": 12, "D": 2, "S": stairs, "B": bricks, "A": air}
    assert len(row_blueprint(BUILT_IN_ROWS[row]).rectangles) == rectangles


def test_an_odd_house_by_hand():
    house = House("hip", width=5, depth=6, walls=2, roof_layers=2)
    assert [layer_rows(house, y) for y in range(house.height)] == [
        ["AAAAA", "CCCCC", "CCCCC", "CCCCC", "CCCCC", "AAAAA"],
        ["AAAAA", "OCDCO", "CAAAC", "CAAAC", "OCCCO", "AAAAA"],
        ["AAAAA", "OCCCO", "CAAAC", "CAAAC", "OCCCO", "AAAAA"],
        ["SSSSS", "BBBBB", "BBBBB", "BBBBB", "BBBBB", "SSSSS"],
        ["AAAAA", "ASSSA", "ASBSA", "ASBSA", "ASSSA", "AAAAA"],
        ["AAAAA", "AAAAA", "AASAA", "AASAA", "AAAAA", "AAAAA"],
    ]


HOUSES = st.builds(
    House,
    st.sampled_from(["gable", "flat", "steep", "x_slope", "hip"]),
    st.integers(4, 9),
    st.integers(5, 9),
    st.integers(1, 5),
    st.integers(0, 4),
)


@settings(max_examples=100)
@given(HOUSES)
def test_every_house_is_a_blueprint_with_four_pillars_and_a_closed_roof(house):
    row = house_row("h", house)
    blueprint = row_blueprint(json.loads(json.dumps(row)))
    assert blueprint.volume == house.width * house.height * house.depth == sum(row["count"].values())
    assert blueprint.counts["obsidian"] == 4 * house.walls
    assert blueprint.counts["planks"] == len(house.ridge)
    assert all((x, house.walls + 1, z) in blueprint.cells for x in range(house.width) for z in range(house.depth))


CELLS = st.dictionaries(st.tuples(*[st.integers(-2, 4)] * 3), st.sampled_from(["stone", "glass", "air"]), max_size=60)


@given(CELLS)
def test_rectangles_cover_exactly_the_cells_each_once_within_layers(cells):
    merged = rectangles(cells)
    covered = [(cell, fill.block) for fill in merged for cell in fill.cells()]
    assert len(covered) == len(cells)
    assert dict(covered) == cells
    assert all(fill.low[1] == fill.high[1] for fill in merged)
    assert list(merged) == sorted(merged, key=lambda f: (f.low[1], f.low[2], f.low[0]))


def test_runs_along_x_merge_over_z_only_where_they_are_equal():
    cells = {(x, 0, z): "stone" for x in range(3) for z in range(3)} | {(3, 0, 1): "stone", (0, 0, 4): "stone", (0, 1, 0): "stone"}
    assert [str(fill) for fill in rectangles(cells)] == [
        "0 0 0 2 0 0 stone",
        "0 0 1 3 0 1 stone",
        "0 0 2 2 0 2 stone",
        "0 0 4 0 0 4 stone",
        "0 1 0 0 1 0 stone",
    ]
    assert rectangles({(0, 0, 0): "a", (1, 0, 0): "b", (0, 0, 1): "a", (1, 0, 1): "b"}) == (
        Fill((0, 0, 0), (0, 0, 1), "a"),
        Fill((1, 0, 0), (1, 0, 1), "b"),
    )


SMALL = {
    "task_id": "small",
    "inventory": {"C": "minecraft:stone", "A": "air"},
    "count": {"C": 3, "A": 5},
    "target_spec": {"type": "y_layers", "size": [2, 2, 2], "layers": [{"y": 1, "rows": ["CA", "CC"]}]},
    "bbox": None,
}


def small(**changes):
    row = copy.deepcopy(SMALL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = row
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if value is KeyError:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return row


def test_a_layer_left_out_is_air_and_rows_go_along_z():
    blueprint = row_blueprint(SMALL)
    assert blueprint.cells == {(0, 1, 0): "stone", (0, 1, 1): "stone", (1, 1, 1): "stone"}
    assert (blueprint.box.low, blueprint.box.high, blueprint.counts, blueprint.volume) == ((0, 0, 0), (1, 1, 1), {"stone": 3}, 8)


def test_count_and_bbox_may_be_left_out_and_a_bbox_widens_the_box():
    assert row_blueprint(small(count=KeyError, bbox=KeyError)).box.high == (1, 1, 1)
    wide = row_blueprint(small(bbox={"from": [-1, 0, 0], "to": [3, 2, 1]}))
    assert (wide.box.low, wide.box.high, wide.volume) == ((-1, 0, 0), (3, 2, 1), 30)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (small(inventory=KeyError), r"row 3: field 'inventory' is missing \(fields: task_id, count"),
        (small(inventory={"CC": "stone"}), "field 'inventory': 'CC' is not one character"),
        (small(inventory={"C": "oak planks"}), "block of 'C' is 'oak planks'"),
        (small(inventory={"C": 3}), "block of 'C' is 3"),
        (small(inventory=[]), r"field 'inventory': expected an object with fields, got \[\]"),
        (small(target_spec=None), "field 'target_spec': expected an object"),
        (small(target_spec__type="voxels"), "type': got 'voxels'"),
        (small(target_spec__size=[2, 2]), "size': expected three whole numbers"),
        (small(target_spec__size=[2, 0, 2]), "side below 1"),
        (small(target_spec__size=[2, True, 2]), "three whole numbers"),
        (small(target_spec__layers={"0": []}), "layers': expected a list"),
        (small(target_spec__layers__0__y=2), "layers.0.y': got 2; give a whole number from 0 to 1"),
        (small(target_spec__layers__0__rows=["CA"]), "layers.0.rows': expected 2 rows"),
        (small(target_spec__layers__0__rows=["CA", "C"]), "rows.1': expected 2 characters"),
        (small(target_spec__layers__0__rows=["CA", 7]), "rows.1': expected 2 characters"),
        (small(target_spec__layers__0__rows=["CA", "CX"]), r"character 'X' is not in the inventory \(C, A\)"),
        (small(target_spec__layers__0__rows=["AA", "AA"]), "every cell is air"),
        (small(target_spec__layers=[SMALL["target_spec"]["layers"][0]] * 2), "layer 1 is given twice"),
        (small(count__C=4), "field 'count': 'C' is 4 and the layers have 3"),
        (small(count__C=[3]), "'C' is .3. and the layers have 3"),
        (small(count__X=1), "character 'X' is not in the inventory"),
        (small(bbox={"from": [0, 0, 0]}), "field 'to' is missing"),
        (small(bbox={"from": [0, 0, 2], "to": [1, 1, 1]}), "from .0, 0, 2. is beyond to"),
        (small(bbox={"from": [0, 0, 0], "to": [0, 1, 1]}), "cell .1, 1, 1. lies outside"),
        (7, "row 3: expected an object with fields, got 7"),
    ],
)
def test_a_blueprint_that_cannot_be_built_names_place_and_field(row, message):
    with pytest.raises(DataError, match=message) as raised:
        row_blueprint(row, "houses.json, row 3")
    assert "houses.json, row 3" in str(raised.value)


def test_a_bad_row_of_a_file_is_refused_when_it_is_loaded(tmp_path):
    file = tmp_path / "houses.json"
    file.write_text(json.dumps([SMALL, small(spiders=[1, -2])]), encoding="utf-8")
    with pytest.raises(DataError, match=r"houses.json, row 1, field 'spiders.1': got '-2'"):
        all_rows(HouseBuildTask(data=str(file)))
