"""`nnunet-semisam sam calibrate` on a network that was trained on the tiny dataset."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import hidden_labels
import pytest
import tiny_nnunet
import torch

from nnunet_semisam import cli
from nnunet_semisam.io.csv_files import read_table
from nnunet_semisam.pseudo_labels.calibration_table import COLUMNS

TRAINER = "nnUNetTrainerTest"


def calibrate(*more: str) -> int:
    words = ["sam", "calibrate", "-d", "901", "-f", "0", "-c", "2d", "-tr", TRAINER, "--device", "cpu", *more]
    return cli.main(words)


@pytest.fixture
def trained(build_trainer) -> Path:
    """A folder of a training whose network was trained for two short epochs."""
    trainer = build_trainer(method="supervised", num_iterations_per_epoch=8)
    trainer.run_training()
    return Path(trainer.output_folder)


@pytest.mark.usefixtures("trained")
def test_every_strategy_of_a_model_is_measured_in_every_class(tmp_path, monkeypatch, capsys):
    (tmp_path / "settings.yaml").write_text("nano: {prompt: box, further_prompts: [points], refinement: none}\n")
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    csv, record = tmp_path / "table.csv", tmp_path / "table.json"
    assert calibrate("--estimated-dice", "0.7", "--csv", str(csv), "--json", str(record)) == 0
    out = capsys.readouterr().out
    rows = list(read_table(csv, COLUMNS, ""))
    assert [(row["generalist"], row["class"]) for row in rows] == [
        ("nano", "1"),
        ("nano", "2"),
        ("nano_points", "1"),
        ("nano_points", "2"),
    ]
    assert {row["cases"] for row in rows} == {"2"}, "the labeled cases of the fold, and no others"
    content = json.loads(record.read_text())
    assert content["cases"] == tiny_nnunet.SPLITS[0]["train"]
    assert (content["estimated_dice"], content["dice_was_estimated"], content["epoch"]) == (0.7, False, 2)
    assert [entry["name"] for entry in content["classes"]] == ["1", "2", "1", "2"]
    for entry, row in zip(content["classes"], rows, strict=True):
        assert f"{float(row['specialist']):.3f}" in out
        assert entry["temperature"] == float(row["temperature"])
        assert 0 <= entry["helped"] <= 1
    for name in ("1", "2"):
        assert sum(entry["weight"] > 0 for entry in content["classes"] if entry["name"] == name) <= 1, "the best one"


@pytest.mark.usefixtures("trained")
def test_hidden_and_validation_labels_change_nothing(tiny_dataset, tmp_path, monkeypatch):
    (tmp_path / "settings.yaml").write_text("nano: {prompt: box, refinement: none}\n")
    monkeypatch.setenv("nnUNet_semisam_config", str(tmp_path / "settings.yaml"))
    monkeypatch.setattr(hidden_labels, "HIDDEN", [*hidden_labels.HIDDEN, *tiny_nnunet.SPLITS[0]["val"]])
    assert calibrate("--json", str(tmp_path / "before.json")) == 0
    hidden_labels.fill_hidden_labels_with_noise(tiny_dataset)
    assert calibrate("--json", str(tmp_path / "after.json")) == 0
    before = json.loads((tmp_path / "before.json").read_text())
    assert before == json.loads((tmp_path / "after.json").read_text())
    assert before["dice_was_estimated"]


def test_mistakes_are_named(trained, capsys):
    for words, message in (
        (("--estimated-dice", "70"), "--estimated-dice must be from 0 to 1, got 70"),
        (("-tr", "nnUNetTrainer"), "There is no training"),
        (("-tr", "../x"), "a trainer is named by its class"),
        (("--checkpoint", "checkpoint_x.pth"), "checkpoints there: checkpoint_best.pth, checkpoint_final.pth"),
        (("--checkpoint", "../x.pth"), "names no file of the training"),
        (("--model", "nanno"), "Did you mean 'nano'?"),
        (("--json", "/nowhere/x.json"), "must name a file in a folder that is there"),
    ):
        assert calibrate(*words) == 2
        assert message in capsys.readouterr().err
    weights = torch.load(trained / "checkpoint_final.pth", weights_only=False)
    weights["network_weights"].popitem()
    torch.save(weights, trained / "checkpoint_other.pth")
    assert calibrate("--checkpoint", "checkpoint_other.pth") == 2
    assert "is of another network than that of the plans" in capsys.readouterr().err


class Evil:
    """Ends the process when it is unpickled."""

    def __reduce__(self):
        return (os._exit, (3,))


def test_code_in_a_checkpoint_is_not_run(trained, capsys):
    content = torch.load(trained / "checkpoint_final.pth", weights_only=False)
    torch.save(content | {"init_args": Evil()}, trained / "checkpoint_other.pth")
    assert calibrate("--checkpoint", "checkpoint_other.pth") == 2
    assert "Only tensors and plain types are read" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_without_unlabeled_cases_the_dice_must_be_given(tiny_dataset, capsys):
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / tiny_nnunet.DATASET
    splits = [{"train": tiny_nnunet.LABELED[:2], "val": tiny_nnunet.LABELED[2:3]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    shutil.rmtree(tiny_dataset / "raw" / tiny_nnunet.DATASET / "imagesUl")
    shutil.rmtree(preprocessed / "nnUNetPlans_2d_unlabeled")
    assert calibrate() == 2
    assert "--estimated-dice" in capsys.readouterr().err
