"""Task rows from files and the Hub."""

import re
from pathlib import Path

import pytest

from collm.config.tasks import CustomTask, StrBuildTask
from collm.envs.data import load_rows, not_held_out
from collm.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "minecraft" / "data.csv"


def strings(rows):
    return [row["string"] for row in rows]


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def test_built_in_rows_and_their_split():
    train, test = load_rows(StrBuildTask())
    assert strings(train) == ["I", "C", "M", "L", "MC", "CM", "LI", "LLM"]
    assert strings(test) == ["ICML", "CLIM"]
    assert [row["difficulty"] for row in train + test] == [1, 1, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.skipif(not SHARED.exists(), reason=f"needs {SHARED}")
def test_the_released_data_file_equals_the_built_in_rows():
    train, test = load_rows(StrBuildTask(data=str(SHARED)))
    assert (strings(train), strings(test)) == tuple(map(strings, load_rows(StrBuildTask())))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'string,difficulty\r\n"AB",1\r\n\r\nCD,2\r\n'),
        ("a.jsonl", '\ufeff{"string": "AB"}\n\n{"string": "CD"}\r\n'),
        ("a.json", '[{"string": "AB"}, {"string": "CD"}]'),
    ],
)
def test_file_formats_and_slices(tmp_path, name, text):
    train, test = load_rows(StrBuildTask(data=write(tmp_path, name, text), train_rows="0:1", test_rows="1:"))
    assert (strings(train), strings(test)) == (["AB"], ["CD"])


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ({}, None),
        ({"train_rows": "0:10", "test_rows": "8:10"}, None),
        ({"train_rows": "0:4"}, None),
        ({"train_rows": ":"}, r"^2 rows \(8 to 9\) .*train_rows is : and task\.test_rows 8:10, .* give task\.test_rows too"),
        ({"test_rows": "7:"}, r"^row 7 .*train_rows is 0:8 and task\.test_rows 7:, .*only task\.test_rows .* give task\.train_rows too"),
    ],
)
def test_rows_of_both_parts_are_told_where_one_slice_alone_was_given(slices, told):
    note = not_held_out(StrBuildTask(**slices))
    assert note is None if told is None else re.search(told, note)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "string\nAB\nA1\n", r"a\.csv, line 3, field 'string': 'A1' has no glyph for '1'; use only"),
        ("a.csv", "word\nAB\n", r"a\.csv, line 2: field 'string' is missing \(fields: word\)"),
        ("a.csv", "string,difficulty\nAB\n", r"line 2: 1 fields where the first line names 2"),
        ("a.csv", "string,string\nAB,1\n", "name every field once"),
        ("a.csv", 'string\n"AB', "line 2: not CSV"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", '{"string": "AB"}\n{"string": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"string": 5}\n', r"line 1, field 'string': expected a string of the letters A-Z, got 5"),
        ("a.jsonl", '"AB"\n', "line 1: expected an object"),
        ("a.jsonl", "9" * 5000, "line 1: cannot be read as JSON"),
        ("a.json", '{"string": "AB"', "not JSON"),
        ("a.json", "3", "expected a list of objects, got int"),
        ("a.json", '[{"string": "AB"}, 3]', "row 1: expected an object"),
        ("a.json", '[{"string": "ab"}]', "row 0, field 'string': .* write AB"),
        ("a.json", "[" * 100_000, "JSON"),
        ("a.txt", "AB", r"has no ending that tells its format; name it \.csv"),
    ],
)
def test_bad_data_names_file_line_field_and_mend(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        load_rows(StrBuildTask(data=write(tmp_path, name, text)))


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"string\n\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        load_rows(StrBuildTask(data=str(path)))


@pytest.mark.parametrize("source", ["no/such/file.csv", "rows.jsonl", "./rows", "/tmp/no/rows"])
def test_a_path_without_a_file(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{source} does not exist .looked in"):
        load_rows(StrBuildTask(data=source))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        load_rows(StrBuildTask(data=str(tmp_path)))


def test_an_empty_slice():
    with pytest.raises(DataError, match=r"task.test_rows='10:12' selects none of the 10 rows of the built-in data; .* 0:10"):
        load_rows(StrBuildTask(test_rows="10:12"))


def test_hub_data(monkeypatch):
    import datasets

    hub = {
        "me/letters": {"train": [{"string": "AB"}], "test": [{"string": "CD"}]},
        "me/one": {"test": [{"string": "EF"}]},
        "me/many": {"a": [], "b": []},
    }

    def load_dataset(name):
        if name not in hub:
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist")
        return hub[name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    def train(name):
        return strings(load_rows(StrBuildTask(data=name, train_rows="0:", test_rows="0:"))[0])

    assert train("me/letters") == ["AB"]
    assert train("me/one") == ["EF"]
    with pytest.raises(DataError, match="no split train but a, b"):
        train("me/many")
    with pytest.raises(DataError, match="'me/none' is no local file and could not be loaded from the Hub"):
        train("me/none")


def test_custom_rows_are_taken_as_they_are(tmp_path):
    data = write(tmp_path, "a.jsonl", '{"question": "1 + 1"}\n')
    assert load_rows(CustomTask(env="a:B")) == ([None], [None])
    assert load_rows(CustomTask(env="a:B", data=data)) == ([{"question": "1 + 1"}], [{"question": "1 + 1"}])
    assert load_rows(StrBuildTask(env="a:B", data=data, test_rows="0:"))[0] == [{"question": "1 + 1"}]
