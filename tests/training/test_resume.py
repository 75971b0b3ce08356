from __future__ import annotations

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.training import resume
from nnunet_semisam.training.checkpoint import NAMES, DamagedCheckpointError


def loads(*whole: str):
    """Return a function that loads only some of the files, and the list of those that it loaded."""
    loaded = []

    def load(path):
        if path.name not in whole:
            raise DamagedCheckpointError(f"{path.name} is torn.")
        loaded.append(path.name)

    return load, loaded


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def test_the_checkpoint_that_was_asked_for_is_taken_without_a_word(folder):
    load, loaded = loads(*NAMES)
    lines = []
    resume.load_newest(folder / "checkpoint_best.pth", load, lines.append)
    assert (loaded, lines) == (["checkpoint_best.pth"], [])


def test_another_checkpoint_takes_the_place_of_a_damaged_one_with_a_line(folder):
    load, loaded = loads("checkpoint_final.pth")
    lines = []
    resume.load_newest(folder / "checkpoint_latest.pth", load, lines.append)
    assert loaded == ["checkpoint_final.pth"]
    assert lines == ["WARNING: checkpoint_latest.pth is torn. The training goes on with checkpoint_final.pth."]


def test_without_any_whole_checkpoint_the_remedy_is_named(folder):
    load, _ = loads()
    with pytest.raises(UserError, match=r"checkpoint_latest.pth is torn\. No other .* start without --c"):
        resume.load_newest(folder / "checkpoint_latest.pth", load, print)


def test_processes_that_can_read_different_checkpoints_do_not_train_together(folder, monkeypatch):
    load, _ = loads("checkpoint_best.pth")
    monkeypatch.setattr("nnunet_semisam.ranks.gathered", lambda mine: ["checkpoint_latest.pth", mine])
    with pytest.raises(UserError, match=r"different checkpoints .*: checkpoint_latest.pth, checkpoint_best.pth"):
        resume.load_newest(folder / "checkpoint_latest.pth", load, lambda line: None)


@pytest.mark.parametrize("error", [KeyError("student"), RuntimeError("size mismatch"), TypeError("NoneType")])
def test_what_does_not_fit_is_damage(error):
    with (
        pytest.raises(DamagedCheckpointError, match="here does not fit this training"),
        resume.misfit_is_damage("here"),
    ):
        raise error
