"""How a training says what its user mistook."""

from __future__ import annotations

import errno
import sys

import pytest
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.training import start
from nnunet_semisam.training.disk_errors import OTHER_RESULTS, disk_errors_for_users
from nnunet_semisam.training.start import say_user_errors_in_a_line

CPU = torch.device("cpu")


def test_a_user_error_that_ends_a_training_is_one_line_and_others_keep_their_traceback(monkeypatch, capsys):
    others = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: others.append(error))
    say_user_errors_in_a_line()
    hook = sys.excepthook
    say_user_errors_in_a_line()
    assert sys.excepthook is hook, "set once, however many trainers are built"
    sys.excepthook(UserError, UserError("There is no fold 7."), None)
    assert capsys.readouterr().err == "nnunet-semisam: There is no fold 7.\n"
    bug = KeyError("a bug")
    sys.excepthook(KeyError, bug, None)
    assert others == [bug]


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda *error: pytest.fail("a traceback"))
    say_user_errors_in_a_line()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert "interrupted" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    return tmp_path


def plans(**configurations):
    return {"dataset_name": "Dataset027_ACDC", "plans_name": "nnUNetPlans", "configurations": configurations}


@pytest.mark.parametrize(
    "content", [{"data_identifier": "nnUNetPlans_2d"}, {"inherits_from": "base"}, {"inherits_from": "other"}]
)
def test_a_configuration_that_is_not_preprocessed_is_refused_before_there_is_a_folder(folders, content):
    chain = {"base": {"data_identifier": "nnUNetPlans_2d"}, "other": {"inherits_from": "base"}}
    wanted = plans(**chain, mine=content)
    with pytest.raises(UserError, match=r"not preprocessed.* -d 027 -plans_name nnUNetPlans -c mine"):
        start.check_start(wanted, "mine", CPU)
    assert not list((folders / "nnUNet_results").iterdir())
    (folders / "nnUNet_preprocessed" / "Dataset027_ACDC" / "nnUNetPlans_2d").mkdir(parents=True)
    start.check_start(wanted, "mine", CPU)


def test_results_that_cannot_be_written_are_no_traceback():
    with (
        pytest.raises(UserError, match=r"/results cannot be .*export nnUNet_results"),
        disk_errors_for_users("nnUNet_results", OTHER_RESULTS),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/results")


def test_a_second_training_of_the_same_fold_is_refused_until_the_first_ends(tmp_path):
    with start.alone_in(tmp_path, rank=0):
        with pytest.raises(UserError, match="Another training writes"), start.alone_in(tmp_path, rank=0):
            pass
        with start.alone_in(tmp_path, rank=1):
            pass  # another process of the first one
    with start.alone_in(tmp_path, rank=0):
        pass


@pytest.mark.parametrize(("batch_size", "batch_dice", "processes"), [(12, True, 4), (3, False, 2), (5, True, 1)])
def test_a_batch_is_shared_among_processes(batch_size, batch_dice, processes):
    start.refuse_uneven_batch(batch_size, batch_dice, processes)


def test_a_batch_whose_dice_needs_as_many_patches_on_each_gpu_is_refused_if_there_are_not():
    with pytest.raises(UserError, match="divides 13"):
        start.refuse_uneven_batch(13, batch_dice=True, processes=2)


def test_an_error_of_one_process_among_several_is_said_in_a_line(monkeypatch, capsys):
    def fail():
        with pytest.raises(UserError), start.user_errors_on_stderr():
            raise UserError("The disk is full.")
        return capsys.readouterr().err

    assert fail() == "", "alone, it is what ends the program"
    monkeypatch.setattr(start.ranks, "several", lambda: True)
    assert fail() == "nnunet-semisam: The disk is full.\n"


def test_a_training_says_where_it_begins(tmp_path):
    assert start.where_it_begins(tmp_path, "", 0, 20) is None
    (tmp_path / "checkpoint_latest.pth").touch()
    said = start.where_it_begins(tmp_path, "", 0, 20)
    assert "checkpoint_latest.pth" in said
    assert "--c" in said
    assert "epoch 3 of 20" in start.where_it_begins(tmp_path, "checkpoint_latest.pth", 3, 20)


def test_a_job_that_was_started_again_waits_for_the_lock_of_the_node_that_was_lost(tmp_path, monkeypatch):
    """A file server holds it until it misses the node; whoever starts a second training by mistake is told at once."""
    other = start.alone_in(tmp_path, rank=0)
    other.__enter__()
    asked = []

    def wait(seconds):
        asked.append(seconds)
        other.__exit__(None, None, None)

    monkeypatch.setattr(start.time, "sleep", wait)
    with pytest.raises(UserError, match=r"delete .*\.training\.lock"), start.alone_in(tmp_path, rank=0):
        pass
    assert asked == []
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with start.alone_in(tmp_path, rank=0):
        assert asked == [start.ASK_AGAIN_SECONDS]
