"""`collm show` as a person types it, and what it prints for a fixed episode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reports.played import BUILD, PROGRAM, action, chain, tree, turn, write_log

from collm.cli.main import app_main
from collm.rollout.describe import describe
from collm.types import Episode, StopReason

BUILD_EPISODE = """\
episode 0000003  {run}/episodes.jsonl, line 1, update 1
task       string L, difficulty 1
return     0.250 = 0.500 - 0.250
ended      after turn 2, by the task (solved, or past mending)

turn 1   reward 0.500 ──────────────────────────────────────────────────────────────────────────────

agent_0 reads                                      agent_1 reads
│ Build L with oak.                                │ Build L with stone.

agent_0 writes (3 tokens, log pi -2.50)            agent_1 writes (3 tokens, log pi -2.50)
│ /setblock 0 0 0 stone                            │ (nothing)

m_t        Turn 1.
value      critic 0.125
advantage  +0.375 for every agent
metrics    iou 0.500

build
  front, z=0   s  stone         2
  y=2  · · s!  o  oak_planks    1
  y=1  □ · ·   □  missing       1
  y=0  o s ·    ! not asked for 1
  x    0

turn 2   reward -0.250 ─────────────────────────────────────────────────────────────────────────────

agent_0, agent_1 read
│ Score 0.50.

agent_0 writes (3 tokens, log pi -2.50, cut at the token limit)
│ \\x1b[2Jdef aux(x):
│     return 2 * x

agent_1 writes (3 tokens, log pi -12.25, 2 oldest turns out of its context)
│ [bold]solve[/bold]

m_t        Turn 2.
advantage  agent_0 +0.250, agent_1 -1.000
metrics    iou 0.500

program
│ def aux(x):
│     return 2 * x
│
│ def solve(xs):
│     return [aux(x) for x in xs]
tests: 1 of 2 passed
✓ assert candidate([1]) == [2]
✗ assert candidate([]) == [0]
    AssertionError

details
killed     false
notes      {{"hp": [5, 4]}}
"""


class Shown:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def show(capsys):
    def call(*args: object) -> Shown:
        with pytest.raises(SystemExit) as caught:
            app_main(["show", *map(str, args)])
        out, err = capsys.readouterr()
        return Shown(int(caught.value.code or 0), out, err)

    return call


def builder_episode() -> Episode:
    """Two turns: a build whose values were read, then a program."""
    first = action(0, 0.5, details=BUILD, values={"critic": 0.125}, advantages={"agent_0": 0.375, "agent_1": 0.375})
    cut = turn("Score 0.50.", "\x1b[2Jdef aux(x):\n    return 2 * x", stop=StopReason.LENGTH)
    dropped = turn("Score 0.50.", "[bold]solve[/bold]", behaviour_logprob=-12.25, dropped_turns=2)
    second = action(
        1,
        -0.25,
        {"agent_0": cut, "agent_1": dropped},
        parent=0,
        terminated=True,
        advantages={"agent_0": 0.25, "agent_1": -1.0},
        details={**PROGRAM, "killed": False, "notes": {"hp": [5, 4]}},
    )
    return Episode("0000003", {"string": "L", "difficulty": 1}, 5, 0, [first, second])


def test_an_episode_as_it_is_printed(show, tmp_path, monkeypatch):
    """Into a pipe: no colour codes, no blanks at line ends, nothing left out but the middle of long prompts."""
    monkeypatch.chdir(tmp_path)
    write_log(Path("r"), [builder_episode()])
    shown = show("r", "3")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == BUILD_EPISODE.format(run="r")


def test_long_prompts_are_abridged_and_responses_never(show, tmp_path):
    """18 lines of a prompt and 40 of a response."""
    long_turn = turn("\n".join(f"line {i}" for i in range(18)), "\n".join(f"answer {i}" for i in range(40)))
    run = write_log(tmp_path / "run", [Episode("0000000", None, 0, 0, [action(0, 1.0, {"agent_0": long_turn}, truncated=True)])])
    short, full = show(run, "0").out, show(run, "0", "--full").out
    assert "│ ... 6 more lines: --full shows them\n│ line 14\n" in short
    assert "line 10" not in short
    assert all(f"│ line {i}\n" in full for i in range(18))
    assert "--full" not in full
    assert all(f"│ answer {i}\n" in text for i in range(40) for text in (short, full))


def test_long_fields_of_a_task_row_are_named(show, tmp_path):
    row = {"task_id": "a/1", "prompt": "def f():\n    ...", "level": 2}
    run = write_log(tmp_path / "run", [Episode("0000000", row, 0, 0, [action(0, 1.0, truncated=True)])])
    assert "task       task_id a/1, level 2; prompt with --full\nreturn" in show(run, "0").out
    assert "after turn 1, by the turn limit\nprompt     def f():\n               ...\n\nturn 1" in show(run, "0", "--full").out


def test_a_tree_is_shown_as_its_best_path_with_the_branches(show, tmp_path):
    run = write_log(tmp_path / "run", [tree()])
    best = show(run, "--best").out
    assert "return     1.400 = 0.200 + 1.200\n" in best
    assert (
        "tree       10 joint actions, 4 leaves with returns 0.100 to 1.400, mean return over the tree 0.750;\n"
        "           shown: the path to joint action 8\n"
    ) in best
    assert (
        "advantage  agent_0 +0.500\n"
        "metrics    iou 0.500\n"
        "branches   joint action  reward  return to go\n"
        "           0             0.100   0.200\n"
        "           1             0.200   1.300         shown\n"
        "           2             0.900   1.150         greedy\n"
    ) in best
    assert "return     0.100 = 0.100 + 0.000\n" in show(run, "11", "--leaf", "worst").out
    greedy = show(run, "11", "--leaf", "greedy").out
    assert "return     1.150 = 0.900 + 0.250\n" in greedy
    assert "turn 2 (greedy baseline)   reward 0.250 ─" in greedy
    wrong = show(run, "11", "--leaf", "best-one")
    assert (wrong.code, wrong.out) == (2, "")
    assert "has no leaf 'best-one'; give best, worst, greedy or one of 3, 4, 5, 6, 7, 8, 9" in wrong.err


def test_few_episodes_are_listed_once(show, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    episodes = [chain((0.5, 0.25)), chain((1.0,), "0000004", 1, terminated=True, truncated=False), tree()]
    write_log(Path("r"), episodes)
    assert show("r").out == (
        "r/episodes.jsonl: 3 episodes of updates 1 to 2, mean return 0.833\n"
        "\n"
        "all, newest first\n"
        "id       update  return           turns  ended        task\n"
        "0000011       2   0.750  2 (tree of 10)  turn limit   none\n"
        "0000004       2   1.000               1  by the task  string L, difficulty 1\n"
        "0000003       1   0.750               2  turn limit   string L, difficulty 1\n"
        "\n"
        "One of them: collm show r ID   (or --best, --worst)\n"
    )


def test_many_episodes_are_listed_by_age_and_return(show, tmp_path):
    returns = [3.0, -1.0, 7.0, 5.0, 0.0, 2.0, 9.0, 4.0, 1.0, 6.0, 8.0, -2.0, 2.5, 3.5, 4.5, 5.5]
    run = write_log(tmp_path / "run", [chain((r,), f"{i:07d}", i // 4) for i, r in enumerate(returns)])
    tables = show(run).out.split("\n\n")
    ids = {table.splitlines()[0]: [line.split()[0] for line in table.splitlines()[2:]] for table in tables[1:4]}
    assert ids["newest"] == ["0000015", "0000014", "0000013", "0000012", "0000011"]
    assert ids["best"] == ["0000006", "0000010", "0000002", "0000009", "0000015"]
    assert ids["worst"] == ["0000011", "0000001", "0000004", "0000008", "0000005"]
    one = show(run, "--update", "2").out
    assert "4 episodes of update 2, mean return 3.750" in one
    assert "return     9.000\n" in show(run, "--update", "2", "--best").out
    assert "return     -2.000\n" in show(run, "--worst").out


def write_evaluations(run: Path) -> None:
    """Two evaluations, as `collm eval` appends them: one without talk, one in which agent_1 heard agent_0."""
    phases = [
        {"agent_0": {"message": "Build.", "text": "a plan"}},
        {"agent_1": {"message": "Build. agent_0: a plan", "text": "the answer"}},
    ]
    rows = []
    for number, protocol in enumerate(["trained", "pipeline"]):
        row = {"evaluation": number, "protocol": protocol, **describe(chain((2.5 + number,), "eval-sampled-0-0"))}
        if number:
            row["turns"][0]["phases"] = phases
        rows.append(row)
    (run / "eval_episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_evaluation_episodes_are_shown_from_their_own_log(show, tmp_path):
    run = write_log(tmp_path / "run", [chain((0.5,))])
    write_evaluations(run)
    newest = show(run, "eval-sampled-0-0", "--eval").out
    assert "line 2, evaluation 1, protocol pipeline\n" in newest
    assert "return     3.500\n" in newest
    assert (
        "exchange 1 of 2\n\nagent_0 reads\n│ Build.\n\nagent_0 writes\n│ a plan\n\n"
        "exchange 2 of 2\n\nagent_1 reads\n│ Build. agent_0: a plan\n\nagent_1 writes\n│ the answer\n"
    ) in newest
    first = show(run, "--evaluation", "0", "--best").out
    assert "line 1, evaluation 0, protocol trained\n" in first
    assert "return     2.500\n" in first
    assert "2 episodes" not in show(run, "--eval").out, "only the newest evaluation is listed"
    assert "it has evaluations 0 to 1, nearest 1" in show(run, "--evaluation", "5").err
    assert "option --update is of training" in show(run, "--eval", "--update", "1").err


def test_a_folder_that_holds_an_evaluation_only_says_how_to_see_it(show, tmp_path):
    run = write_log(tmp_path / "run", [chain()])
    write_evaluations(run)
    (run / "episodes.jsonl").unlink()
    assert "eval_episodes.jsonl does: add --eval" in show(run).err


def test_exports_are_named(show, tmp_path):
    run = write_log(tmp_path / "run", [builder_episode()])
    shown = show(run, "3", "--export", tmp_path / "out")
    names = ["0000003_turn1.png", "0000003_turn1.mcfunction", "0000003_turn1.schem", "0000003_turn2.py"]
    assert shown.out.endswith("\n\n" + "".join(f"wrote {tmp_path / 'out' / name}\n" for name in names))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["9"], "has no episode 9; nearest: 0000003"),
        (["3", "--best"], "argument EPISODE, option --best and option --worst each name an episode: give one of them"),
        (["--best", "--worst"], "give one of them"),
        (["--export", "out"], "option --export needs an episode: name one, or add --best or --worst"),
        (["--update", "0"], "option --update: expected a whole number >= 1, got '0'"),
        (["--update", "7"], "no episode of update 7; it has update 1"),
        (["--eval"], "eval_episodes.jsonl does not exist; `collm eval"),
    ],
)
def test_mistakes_are_told_in_one_line(args, message, show, tmp_path):
    run = write_log(tmp_path / "run", [chain()])
    shown = show(run, *args)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_a_run_without_episodes_and_a_folder_without_a_run(show, tmp_path):
    run = write_log(tmp_path / "run", [])
    assert "holds no episode: logging.episodes_per_update is 0" in show(run).err
    assert "holds no run" in show(tmp_path).err


def test_strbuild_s_own_details_are_drawn(show, tmp_path):
    """As the environment writes them, through JSON."""
    from collm.config.tasks import StrBuildTask
    from collm.envs.strbuild.env import StrBuildEnv

    env = StrBuildEnv(StrBuildTask(), 2)
    env.reset(seed=0, options={"task": {"string": "I"}})
    infos = env.step({"agent_0": "/setblock 2 4 0 stone\n/setblock 0 3 0 stone", "agent_1": "/setblock 0 4 0 obsidian"})[4]
    details = json.loads(json.dumps(infos["agent_0"]["details"]))
    run = write_log(tmp_path / "run", [Episode("0000000", {"string": "I"}, 0, 0, [action(0, 0.0, details=details, truncated=True)])])
    assert (
        "  front, z=0       s  stone          2\n"
        "  y=4  o □ s □ □   o  obsidian       1\n"
        "  y=3  s!· □ · ·   □  missing       11\n"
        "  y=2  · · □ · ·    ! not asked for  1\n"
        "  y=1  · · □ · ·\n"
        "  y=0  □ □ □ □ □\n"
        "  x    0\n"
    ) in show(run, "0").out
