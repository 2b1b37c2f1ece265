"""The text rules of Minecraft commands (tasks.md section 3, oracles/README.md)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.envs.minecraft.commands import (
    Box,
    Setblock,
    accepted_commands,
    fenced_text,
    run_commands,
    setblock_parser,
    split_limit,
)

BOX = Box((0, 0, 0), (25, 4, 0))
PALETTE = ("oak_planks", "stone")


def accepted(text: str, limit: int = 150) -> list[tuple[tuple[int, int, int], str]]:
    return [(c.cell, c.block) for c in accepted_commands(text, setblock_parser(PALETTE, BOX), limit)]


@pytest.mark.parametrize(
    "line",
    [
        "/setblock 1 2 0 stone",
        "setblock 1 2 0 stone",
        "SetBlock 1 2 0 stone",
        "/ setblock 1 2 0 stone",
        "  /setblock\t1\u00a02   0 minecraft:stone  ",
        "- /setblock 1 2 0 stone",
        "-/setblock 1 2 0 stone",
        "**/setblock 1 2 0 stone",
        "-*- /setblock 1 2 0 stone",
        "12. /setblock 1 2 0 stone",
        "1)/setblock 1 2 0 stone",
        "/setblock +1 02 -0 stone destroy extra words",
        "/setblock ١ ２ 0 stone",
        "```/setblock 1 2 0 stone```",
        "```mcfunction\n/setblock 1 2 0 stone\n```",
        "Sure!\n```\n/setblock 1 2 0 stone\n```\n/setblock 3 3 0 stone",
        "``` two words\n/setblock 1 2 0 stone\n```",
        "```\n/setblock 1 2 0 stone",
        "x\r\n/setblock 1 2 0 stone\x1cx\u2028x",
    ],
)
def test_line_is_accepted(line):
    assert accepted(line) == [((1, 2, 0), "stone")]


@pytest.mark.parametrize(
    "line",
    [
        "//setblock 1 2 0 stone",
        "- - /setblock 1 2 0 stone",
        "1.1. /setblock 1 2 0 stone",
        "(1) /setblock 1 2 0 stone",
        "• /setblock 1 2 0 stone",
        "> /setblock 1 2 0 stone",
        "`/setblock 1 2 0 stone`",
        "/minecraft:setblock 1 2 0 stone",
        "/execute run setblock 1 2 0 stone",
        "/setbloсk 1 2 0 stone",  # a Cyrillic letter
        "/setblock 1 2 0 Stone",
        "/setblock 1 2 0 MINECRAFT:stone",
        "/setblock 1 2 0 minecraft:minecraft:stone",
        "/setblock 1 2 0 obsidian",
        "/setblock 1 2 0 stone[axis=x]",
        "/setblock 1, 2, 0, stone",
        "/setblock 1.0 2 0 stone",
        "/setblock ~1 2 0 stone",
        "/setblock 0x1 2 0 stone",
        "/setblock 26 2 0 stone",
        "/setblock -1 2 0 stone",
        "/setblock 1 5 0 stone",
        "/setblock 1 2 1 stone",
        "/setblock 1 2 0",
        "/fill 1 2 0 1 2 0 stone",
        "/setblock " + "9" * 5000 + " 2 0 stone",
        "``````\n/setblock 1 2 0 stone\n",
        "",
        "/",
        "\x00",
    ],
)
def test_line_is_dropped(line):
    assert accepted(line) == []


def test_bad_lines_are_dropped_one_by_one_and_only_accepted_ones_count_towards_the_limit():
    text = "/setblock 0 0 0 stone\n/setblock 99 0 0 stone\n/setblock 1 0 0 air\n/setblock 2 0 0 stone"
    assert accepted(text, limit=2) == [((0, 0, 0), "stone"), ((1, 0, 0), "air")]
    assert accepted(text, limit=0) == []


def test_only_the_first_fence_pair_counts_and_its_lone_first_word_is_dropped():
    assert fenced_text("a ```text\nb\n``` c ```d```") == "b\n"
    assert fenced_text("```a b\nc```") == "a b\nc"
    assert fenced_text("no ``` pair") == "no ``` pair"


def test_later_writes_win_and_air_clears():
    world = {(0, 0, 0): "stone", (1, 0, 0): "stone"}
    run_commands(world, [Setblock((0, 0, 0), "oak_planks"), Setblock((1, 0, 0), "air"), Setblock((2, 0, 0), "air")])
    assert world == {(0, 0, 0): "oak_planks"}


@pytest.mark.parametrize(("total", "n", "shares"), [(300, 2, (150, 150)), (10, 3, (4, 3, 3)), (5, 5, (1,) * 5), (7, 1, (7,))])
def test_split_limit_gives_the_remainder_to_the_first(total, n, shares):
    assert split_limit(total, n) == shares


PIECES = st.sampled_from(
    ["/", "setblock", "SETBLOCK", " ", "\n", "\t", "```", "- ", "1. ", "0", "1", "-2", "+3", "٣", "stone", "minecraft:", "air", "\x1c"]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join)), st.integers(0, 5))
def test_no_text_raises_and_every_accepted_command_is_allowed(text, limit):
    commands = accepted_commands(text, setblock_parser(PALETTE, BOX), limit)
    assert len(commands) <= limit
    for command in commands:
        assert command.cell in BOX
        assert command.block in {*PALETTE, "air"}


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 4), st.sampled_from(PALETTE)), max_size=40))
def test_well_formed_commands_all_pass_in_order(placed):
    text = "\n".join(f"/setblock {x} {y} 0 {block}" for x, y, block in placed)
    assert accepted(text) == [((x, y, 0), block) for x, y, block in placed]
