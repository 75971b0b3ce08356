"""Logs of trainings are read as nnU-Net and this package write them."""

import pytest

from nnunet_semisam.report.reading.training_logs import TrainingRecord, read_training
from nnunet_semisam.training.training_log import TrainingLog

START = "2026-01-01 00:00:00.000001: "


def log(folder, name, *lines):
    text = "\n".join(START + line for line in lines)
    (folder / f"training_log_{name}.txt").write_text(text + "\n")


def test_a_resumed_training_replaces_what_it_repeats(tmp_path):
    log(tmp_path, "1", "Epoch 0 ", "train_loss -0.1 ", "Epoch 1 ", "train_loss -0.2 ", "Epoch 2 ", "train_loss 9 ")
    log(tmp_path, "2", "Epoch 2 ", "train_loss -0.3 ", "Pseudo dice [np.float32(0.5), nan, 0.7] ", "Epoch time: 2.5 s")
    found = read_training(tmp_path).nnunet
    assert found["train_loss"] == [(0, -0.1), (1, -0.2), (2, -0.3)]
    assert found["pseudo_dice"] == [(2, pytest.approx(0.6))]
    assert found["epoch_seconds"] == [(2, 2.5)]


def test_epochs_that_were_repeated_with_finite_losses_are_no_divergence(tmp_path):
    log(tmp_path, "1", "Epoch 0 ", "train_loss nan ", "Epoch 1 ", "train_loss nan ", "Epoch 2 ", "train_loss -0.1 ")
    log(tmp_path, "2", "Epoch 1 ", "train_loss nan ", "Epoch 2 ", "train_loss nan ")
    found = read_training(tmp_path)
    assert (found.not_finite, found.nnunet["train_loss"]) == ({"train_loss": 3}, [])
    log(tmp_path, "3", "Epoch 0 ", "train_loss -0.1 ", "Epoch 1 ", "train_loss -0.2 ", "Epoch 2 ", "train_loss -0.3 ")
    found = read_training(tmp_path)
    assert (found.not_finite, len(found.nnunet["train_loss"])) == ({}, 3)


def test_figures_before_the_first_epoch_of_a_start_belong_to_none(tmp_path):
    log(tmp_path, "1", "Epoch 0 ", "train_loss -0.1 ")
    log(tmp_path, "2", "train_loss 7 ", "Epoch 1 ", "train_loss -0.2 ")
    assert read_training(tmp_path).nnunet["train_loss"] == [(0, -0.1), (1, -0.2)]


def test_a_torn_line_is_passed_over(tmp_path):
    log(tmp_path, "1", "Epoch 0 ", "train_loss -0.2026-01-01 ", "val_loss nan ")
    assert read_training(tmp_path).nnunet == {}


def test_our_own_log_comes_back_as_it_was_written(tmp_path):
    written = TrainingLog()
    written.add(0, {"unlabeled_loss": 0.5})
    written.add(1, {"unlabeled_loss": float("nan"), "pseudo_label_loss": 0.25})
    written.write(tmp_path)
    assert read_training(tmp_path).terms == {"unlabeled_loss": [(0, 0.5)], "pseudo_label_loss": [(1, 0.25)]}


def test_a_training_without_logs_is_empty(tmp_path):
    assert read_training(tmp_path / "nowhere") == TrainingRecord()
