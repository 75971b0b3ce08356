"""Logs of trainings are read as nnU-Net and this package write them."""

import numpy as np
import pytest

from nnunet_semisam.report.reading.training_logs import read_training
from nnunet_semisam.report.sections.sam import figures_of
from nnunet_semisam.training.training_log import TrainingLog

START = "2026-01-01 00:00:00.000001: "


def log(folder, name, *lines):
    text = "\n".join(line if line.startswith("  ") else START + line for line in lines)
    (folder / f"training_log_{name}.txt").write_text(text + "\n")


def test_a_resumed_training_replaces_what_it_repeats(tmp_path):
    log(tmp_path, "1", "Epoch 0 ", "train_loss -0.1 ", "Epoch 1 ", "train_loss -0.2 ", "Epoch 2 ", "train_loss 9 ")
    log(tmp_path, "2", "Epoch 2 ", "train_loss -0.3 ", "Pseudo dice [np.float32(0.5), nan, 0.7] ", "Epoch time: 2.5 s")
    found = read_training(tmp_path).nnunet
    assert found["train_loss"] == [(0, -0.1), (1, -0.2), (2, -0.3)]
    assert found["pseudo_dice"] == [(2, pytest.approx(0.6))]
    assert found["epoch_seconds"] == [(2, 2.5)]


def test_our_own_log_comes_back_as_it_was_written(tmp_path):
    written = TrainingLog()
    written.add(0, {"consistency": 0.5})
    written.add(1, {"consistency": float("nan"), "sam": 0.25})
    written.write(tmp_path)
    assert read_training(tmp_path).terms == {"consistency": [(0, 0.5)], "sam": [(1, 0.25)]}


def test_rounds_and_calibrations_as_the_stage_writes_them(tmp_path):
    from nnunet_semisam.pseudo_labels.calibration import CalibrationTable, ClassCalibration
    from nnunet_semisam.pseudo_labels.summary import RoundSummary

    on = ClassCalibration("1", 0.5, (0.6, 0.7), 0.5, 0.6, 0.7, 3, "SAM helps: so much")
    off = ClassCalibration("2", 0.0, (0.0, 0.0), None, None, None, 0, "no labeled case shows it")
    summary = RoundSummary(
        *(4, 21, 2, ["1", "2"], [0.83, None], [0.7, None], [0.9, None], [10, 0], [1, 0], [0, 0]),
        trusted_share_all=0.9,
        seconds={"load": 1.0, "predict": 2.0},
        cache_hit_rate=None,
    )
    lines = [CalibrationTable((on, off)).log_text(), summary.log_text()]
    log(tmp_path, "1", "Epoch 20 ", *"\n".join(lines).splitlines(), "Epoch 21 ")
    found = read_training(tmp_path)
    assert found.calibrations == [
        (21, {"1": {"weight": 0.5, "reason": on.reason}, "2": {"weight": 0.0, "reason": off.reason}})
    ]
    (one,) = found.rounds
    assert (one.index, one.epoch, one.cases, one.seconds) == (4, 21, 2, 3.0)
    assert one.classes["1"] == {"prompts": 10, "collapsed": 1, "empty": 0, "agreement": 0.83, "trust": 0.7}
    assert one.classes["2"]["agreement"] is None


CALIBRATION = (
    "SAM calibration on labeled cases:",
    "  class 1: SAM is on with weight 0.5: SAM helps: so much",
)


def test_a_calibration_that_a_resumed_training_repeats_stands_once_at_its_epoch(tmp_path):
    log(tmp_path, "1", "Epoch 2 ", *CALIBRATION, "Epoch 3 ", "Epoch 6 ", *CALIBRATION, "Epoch 7 ")
    log(tmp_path, "2", *CALIBRATION)  # killed before its first epoch
    log(tmp_path, "3", *CALIBRATION, "Epoch 7 ", "Epoch 8 ", *CALIBRATION)
    found = read_training(tmp_path).calibrations
    assert [epoch for epoch, _ in found] == [3, 7, 9]
    assert all(content["1"]["weight"] == 0.5 for _, content in found)


def test_a_training_without_logs_is_empty(tmp_path):
    found = read_training(tmp_path / "nowhere")
    assert (found.nnunet, found.terms, found.rounds, found.calibrations) == ({}, {}, [], [])


def test_figures_of_a_calibration_are_read_from_the_words_that_it_writes():
    from nnunet_semisam.generalists.prediction import SAMOpinion
    from nnunet_semisam.labels import Labels
    from nnunet_semisam.pseudo_labels.calibration import Calibration

    layout = Labels((1,), False, (), lambda probs: probs.argmax(0))
    truth = np.zeros((1, 4, 4), dtype=np.int16)
    truth[:, :, :2] = 1
    network = np.stack([truth == 0, truth == 1]).astype(np.float32)
    network[:, 0, 0, 0] = (1, 0)  # one of eight voxels is missed: Dice 14 / 15
    calibration = Calibration(layout)
    calibration.add(network, SAMOpinion.silence((1, *truth.shape)), truth)
    reason = calibration.table().classes[0].reason
    assert figures_of(reason) == [0.933, 0.933, 0.933, 1.0]
    assert figures_of("no labeled case shows it") == [None] * 4
