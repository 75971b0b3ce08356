"""A file or folder is replaced whole or not at all, however its writer ends."""

import os
import signal
import subprocess
import sys

import pytest

from nnunet_semisam.io import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_the_old_content_is_there_until_the_block_has_ended(tmp_path, mode):
    path = tmp_path / "note.txt"
    path.write_text("old")
    new = "nëw\n" if mode == "w" else "nëw\n".encode()
    with atomic.open_atomically(path, mode) as file:
        file.write(new)
        assert path.read_text() == "old"
    assert path.read_bytes() == "nëw\n".encode()
    assert names(tmp_path) == ["note.txt"]


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_no_temporary(tmp_path, existed, error):
    path = tmp_path / "note.txt"
    if existed:
        path.write_text("old")

    def write_half():
        with atomic.open_atomically(path, "w") as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert names(tmp_path) == ["note.txt"] * existed
    assert not existed or path.read_text() == "old"


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda number: (calls.append("flush"), fsync(number)))
    monkeypatch.setattr(atomic.os, "replace", lambda *paths: (calls.append("rename"), replace(*paths)))
    atomic.write_text(tmp_path / "a", "a")
    with atomic.replaced_file(tmp_path / "b") as temporary:
        temporary.write_text("b")
    assert calls == ["flush", "rename"] * 2


def test_texts_keep_their_line_ends_and_are_utf_8(tmp_path):
    atomic.write_text(tmp_path / "a", "ä\r\nb\n")
    atomic.write_bytes(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == "ä\r\nb\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


KILLED = """
import os, signal, sys
from pathlib import Path
from nnunet_semisam.io import atomic
with getattr(atomic, sys.argv[2])(Path(sys.argv[1])) as target:
    if hasattr(target, "write"):
        target.write(b"half")
        target.flush()
    elif target.is_dir():
        (target / "half").touch()
    else:
        target.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("writer", ["open_atomically", "replaced_file", "new_folder"])
def test_a_killed_process_leaves_at_most_a_hidden_temporary_which_can_be_removed(tmp_path, writer):
    path = tmp_path / "case.nii.gz"
    words = [sys.executable, "-c", KILLED, str(path), writer]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".case.nii.gz.")
    assert atomic.TEMPORARY_SUFFIX in left
    atomic.remove_temporaries(tmp_path, "*.json")
    assert names(tmp_path) == [left]
    atomic.remove_temporaries(tmp_path, "*.nii.gz")
    assert names(tmp_path) == []


def test_only_temporaries_of_the_named_targets_are_removed(tmp_path):
    kept = [".hidden.tmp", ".note.txt.tmp", "note.tmp", ".tmp", ".note.txt.1-abcdef01.tmpfile", "folder"]
    for name in kept:
        (tmp_path / name).touch()
    for name in ("note.txt", "checkpoint_best.pth"):
        atomic.temporary_beside(tmp_path / name).touch()
    atomic.remove_temporaries(tmp_path, "checkpoint_*")
    assert len(names(tmp_path)) == len(kept) + 1
    atomic.remove_temporaries(tmp_path)
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("name", ["case.nii.gz", "picture.png", "case.b2nd", "none"])
def test_libraries_see_the_ending_by_which_they_choose_a_format(tmp_path, name):
    ending = name.partition(".")[2]
    with atomic.replaced_file(tmp_path / name) as temporary:
        assert temporary.name.endswith(ending)
        assert temporary.name.startswith(f".{name}.")
        temporary.touch()
    assert names(tmp_path) == [name]


def test_a_replaced_file_whose_block_raises_or_writes_nothing_stays_as_it_was(tmp_path):
    path = tmp_path / "case.npz"
    path.write_text("old")

    def write_half():
        with atomic.replaced_file(path) as temporary:
            temporary.write_text("half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    with pytest.raises(FileNotFoundError), atomic.replaced_file(path):
        pass
    assert (names(tmp_path), path.read_text()) == (["case.npz"], "old")


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "model"
    with atomic.new_folder(path) as unfinished:
        (unfinished / "a").touch()
        assert not path.exists()
        (unfinished / "b").touch()
    assert (names(tmp_path), names(path)) == (["model"], ["a", "b"])


def test_a_folder_whose_block_raises_does_not_appear(tmp_path):
    def make_half():
        with atomic.new_folder(tmp_path / "model") as unfinished:
            (unfinished / "a").touch()
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        make_half()
    assert names(tmp_path) == []


def test_folders_are_made_once_and_never_merged(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    with atomic.new_folder(path) as unfinished:  # an empty one is replaced
        (unfinished / "a").touch()
    with pytest.raises(FileExistsError, match="exists already"), atomic.new_folder(path):
        pytest.fail("the block must not begin")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), atomic.new_folder(tmp_path / "file"):
        pytest.fail("the block must not begin")


def test_a_folder_that_somebody_else_made_meanwhile_is_kept(tmp_path):
    path = tmp_path / "model"

    def make_ours():
        with atomic.new_folder(path) as unfinished:
            (unfinished / "ours").touch()
            path.mkdir()
            (path / "theirs").touch()

    with pytest.raises(FileExistsError):
        make_ours()
    assert (names(tmp_path), names(path)) == (["model"], ["theirs"])


def test_a_link_replaces_links_and_files_alike(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    link = tmp_path / "link"
    for target in (first, second):
        atomic.write_symlink(link, target)
        assert link.readlink() == target
    assert names(tmp_path) == ["first", "link", "second"]


def test_two_writers_of_one_file_do_not_share_a_temporary(tmp_path):
    path = tmp_path / "note"
    with atomic.open_atomically(path, "w") as first, atomic.open_atomically(path, "w") as second:
        first.write("first")
        second.write("second")
    assert path.read_text() == "first"  # who ends last wins, whole
    assert names(tmp_path) == ["note"]


@pytest.mark.parametrize(("pattern", "removed"), [("a.json", ["a.json"]), ("*.json", ["a.json", "b.json"])])
def test_leftovers_are_chosen_by_the_name_of_their_target(tmp_path, pattern, removed):
    leftovers = {name: atomic.temporary_beside(tmp_path / name) for name in ("a.json", "b.json", "c.txt")}
    for file in leftovers.values():
        file.touch()
    atomic.remove_temporaries(tmp_path, pattern)
    assert [name for name, file in leftovers.items() if not file.exists()] == removed


def test_leftovers_of_the_dead_are_those_of_this_machine_or_a_day_old(tmp_path, monkeypatch):
    """A number of a process says nothing on another machine, which may be writing there at this moment."""
    ours = atomic.temporary_beside(tmp_path / "model")
    monkeypatch.setattr(atomic, "HOST", "0123")
    theirs, old = (atomic.temporary_beside(tmp_path / "model") for _ in range(2))
    monkeypatch.undo()
    for file in (ours, theirs, old):
        file.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(atomic, "_lives", lambda process: False)
    atomic.remove_leftovers_of_the_dead(tmp_path, "model")
    assert names(tmp_path) == [theirs.name]
