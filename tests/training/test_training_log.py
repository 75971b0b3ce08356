import csv
import math
import os

import matplotlib

from nnunet_semisam.training.training_log import CSV_NAME, PICTURE_NAME, TrainingLog


def test_rows_are_written_with_all_columns(tmp_path):
    log = TrainingLog()
    log.add(0, {"loss": 1.5, "unlabeled_weighted": 0.0})
    log.add(1, {"loss": 1, "unlabeled_weighted": 0.25, "labeled_dice_1": 0.5, "class_weight_1": 1.0})
    log.write(tmp_path)
    with open(tmp_path / CSV_NAME, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "unlabeled_weighted", "labeled_dice_1", "class_weight_1"]
    assert [row["loss"] for row in rows] == ["1.5", "1.0"]
    assert [row["labeled_dice_1"] for row in rows] == ["", "0.5"]
    assert (tmp_path / PICTURE_NAME).read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([CSV_NAME, PICTURE_NAME])


def test_epochs_of_an_interrupted_run_are_replaced():
    log = TrainingLog()
    for epoch in range(5):
        log.add(epoch, {"loss": float(epoch)})
    log.add(2, {"loss": 20.0})
    assert [(row["epoch"], row["loss"]) for row in log.rows] == [(0, 0.0), (1, 1.0), (2, 20.0)]


def test_state_is_restored_as_a_copy(tmp_path):
    log, other = TrainingLog(), TrainingLog()
    log.add(0, {"loss": math.nan})
    other.load_state_dict(log.state_dict())
    other.add(1, {"loss": 2.0})
    other.rows[0]["loss"] = 7.0
    assert len(log.rows) == 1
    assert math.isnan(log.rows[0]["loss"])


def test_a_file_that_another_program_has_open_is_said_and_written_with_the_next_epoch(tmp_path, monkeypatch):
    """Windows refuses to replace a file that a spreadsheet shows: that ended the training."""
    log = TrainingLog()
    log.add(0, {"loss": 1.0})
    assert log.write(tmp_path) == []
    replace = os.replace

    def refuse(source, target):
        if str(target).endswith(CSV_NAME):
            raise PermissionError(13, "in use")
        replace(source, target)

    log.add(1, {"loss": 2.0})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        (sentence,) = log.write(tmp_path)
    assert sentence.startswith(f"{tmp_path / CSV_NAME} cannot be replaced (in use). Close it")
    assert (tmp_path / CSV_NAME).read_text().count("\n") == 2
    log.add(2, {"loss": 3.0})
    assert log.write(tmp_path) == []
    assert (tmp_path / CSV_NAME).read_text().count("\n") == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([CSV_NAME, PICTURE_NAME])


def test_empty_log_can_be_written(tmp_path):
    TrainingLog().write(tmp_path)
    assert (tmp_path / PICTURE_NAME).is_file()


def test_picture_does_not_depend_on_the_style_of_the_process(tmp_path):
    log, pictures = TrainingLog(), []
    log.add(0, {"unlabeled_weighted": 0.5, "labeled_dice_1": 0.2})
    for size in (10.0, 40.0):  # nnU-Net's plots scale all fonts
        with matplotlib.rc_context({"font.size": size, "axes.facecolor": "red"}):
            log.write(tmp_path)
            assert matplotlib.rcParams["font.size"] == size
        pictures.append((tmp_path / PICTURE_NAME).read_bytes())
    assert pictures[0] == pictures[1]
