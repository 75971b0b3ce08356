"""Json files are written as a whole, and several of them together or not at all."""

import json
import os

import pytest

from nnunet_semisam.io import json_files


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
