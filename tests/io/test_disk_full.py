"""On a full disk a write fails with an error, and what was there stays as it was."""

import pytest

from nnunet_semisam.io import atomic, csv_files, json_files

TOO_MUCH = 3 * 2**20
WRITERS = {
    "bytes": lambda path: atomic.write_bytes(path, bytes(TOO_MUCH)),
    "text": lambda path: atomic.write_text(path, "x" * TOO_MUCH),
    "json": lambda path: json_files.write_json(path, "x" * TOO_MUCH),
    "two json files": lambda path: json_files.write_json_files({path: 1, path.with_name("more"): "x" * TOO_MUCH}),
    "table": lambda path: csv_files.write_table(path, ["a"], [{"a": "x" * TOO_MUCH}]),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("existed", [True, False])
def test_a_writer_leaves_the_old_file_and_nothing_else(kind, existed, small_disk):
    path = small_disk / "file"
    if existed:
        path.write_text('"old"')
    with pytest.raises(OSError, match="No space left"):
        WRITERS[kind](path)
    assert names(small_disk) == (["file"] if existed else [])
    assert not existed or path.read_text() == '"old"'


def test_a_library_that_writes_itself_leaves_the_old_file(small_disk):
    path = small_disk / "image.nii.gz"
    path.write_bytes(b"old")
    with pytest.raises(OSError), atomic.replaced_file(path) as temporary:  # noqa: PT011
        temporary.write_bytes(bytes(TOO_MUCH))
    assert names(small_disk) == ["image.nii.gz"]
    assert path.read_bytes() == b"old"


def test_a_folder_is_not_there_rather_than_half_there(small_disk):
    def fill():
        with atomic.new_folder(small_disk / "model") as folder:
            (folder / "small").write_bytes(b"x")
            (folder / "large").write_bytes(bytes(TOO_MUCH))

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert names(small_disk) == []


def test_a_line_that_does_not_fit_leaves_the_lines_before_it_and_more_can_follow(small_disk):
    path = small_disk / "rounds.jsonl"
    json_files.append_json_line(path, {"round": 1})
    with pytest.raises(OSError, match="No space left"):
        json_files.append_json_line(path, {"round": 2, "text": "x" * TOO_MUCH})
    assert path.read_text() == '{"round":1}\n'
    json_files.append_json_line(path, {"round": 3})
    assert [line["round"] for line in json_files.read_json_lines(path)] == [1, 3]
