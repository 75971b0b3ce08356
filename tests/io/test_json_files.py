"""Json files are read with an error that names them, and written as a whole, several together or not at all."""

import json
import os

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.io import json_files

REMEDY = "Make it again."
DAMAGED = ["", "{", '{"a": ', "[" * 100_000, b"\xff\xfe"]


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return path


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_write_that_fails_half_way_leaves_every_file_as_it_was(tmp_path, monkeypatch, fails_at):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    json_files.write_json(old, "before")
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(json_files.os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        json_files.write_json_files({old: "after", new: "after"})
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert json.loads(old.read_text()) == "before"


def test_content_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    json_files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        json_files.write_json(path, {"a": object()})
    assert ([p.name for p in tmp_path.iterdir()], json.loads(path.read_text())) == (["a.json"], {"a": 1})


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, content):
    path = write(tmp_path / "a.json", content)
    for read in (json_files.read_json, json_files.read_object):
        with pytest.raises(UserError, match=r"a\.json .*Make it again\."):
            read(path, REMEDY)
    assert json_files.object_or_none(path) is None


def test_a_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(UserError, match=r"a\.json .*Make it again\."):
        json_files.read_json(tmp_path / "a.json", REMEDY)
    assert json_files.object_or_none(tmp_path / "a.json") is None


def test_something_else_than_an_object_is_refused_where_one_is_needed(tmp_path):
    path = write(tmp_path / "a.json", "[1]")
    assert json_files.read_json(path, REMEDY) == [1]
    with pytest.raises(UserError, match=r"must hold an object, got list\. Make it again\."):
        json_files.read_object(path, REMEDY)
    assert json_files.object_or_none(path) is None


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.json"
    json_files.write_json(path, {"ä": [1, None]})
    assert json_files.read_object(path, REMEDY) == json_files.object_or_none(path) == {"ä": [1, None]}


def lines(path):
    return list(json_files.read_json_lines(path))


def test_lines_are_appended_and_read_in_order(tmp_path):
    path = tmp_path / "a.jsonl"
    assert lines(path) == []
    for number in range(3):
        json_files.append_json_line(path, {"number": number})
    assert lines(path) == [{"number": number} for number in range(3)]
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize("torn", ['{"number": 1', '{"number":1}'])
def test_what_a_killed_process_tore_costs_no_other_line(tmp_path, torn):
    path = tmp_path / "a.jsonl"
    json_files.append_json_line(path, {"number": 0})
    with path.open("a") as file:
        file.write(torn)
    json_files.append_json_line(path, {"number": 2})
    assert [line["number"] for line in lines(path) if line["number"] != 1] == [0, 2]


def test_damaged_lines_are_passed_over(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n\n[2]\n\xff\n{"a": 3\n{"a": 4}\n{"a": 5')
    assert lines(path) == [{"a": 1}, {"a": 4}]


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        json_files.append_json_line(path, {"a": float("nan")})
    assert lines(path) == []
