"""What would stop a trainer days later stops the benchmark before its first run."""

import json
import shutil

import pytest
import small_dataset
from small_dataset import write_image

from nnunet_semisam import cli
from nnunet_semisam.benchmark import preflight
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.preprocess_unlabeled import RECIPE_FILE
from nnunet_semisam.errors import UserError


@pytest.fixture
def preprocessed(raw):
    return raw.parents[1] / "preprocessed" / small_dataset.NAME


def check(study):
    made = study()
    return preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())


def test_complete_data_pass(study):
    assert check(study) == []


def test_unlabeled_images_that_are_not_preprocessed(study, preprocessed):
    shutil.rmtree(preprocessed / "nnUNetPlans_2d_unlabeled")
    with pytest.raises(UserError, match=r"Teacher__2d__fold_0__seed_0 could not start, so no run was started\. None"):
        check(study)
    made = study(trainers=["nnUNetTrainerSupervised"])  # which needs none
    assert preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs()) == []


def test_images_that_were_added_later_are_told(study, raw):
    write_image(raw / "imagesUl" / "u2_0000.nii.gz", 9)
    (note,) = check(study)
    assert "1 of 2 unlabeled cases" in note


def test_labeled_case_that_is_not_preprocessed(study, preprocessed):
    for path in (preprocessed / "nnUNetPlans_2d").glob("p0_frame01.*"):
        path.unlink()
    with pytest.raises(UserError, match=r"train cases that are not among .* p0_frame01"):
        check(study)


def test_data_of_other_plans(study, preprocessed):
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    more = {"transpose_forward": [0, 1, 2], "foreground_intensity_properties_per_channel": {}}
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans | more | {"image_reader_writer": "SimpleITKIO"}))
    (preprocessed / "nnUNetPlans_2d_unlabeled" / RECIPE_FILE).write_text('{"recipe": "another"}')
    with pytest.raises(UserError, match="were preprocessed with other plans"):
        check(study)


def test_plans_that_have_seen_hidden_labels_stop_every_trainer(study, raw, preprocessed, tmp_path, capsys):
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"]
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", "nnUNetTrainerMeanTeacher", "-np", "1"]
    assert cli.main([*words, "-o", str(tmp_path / "out")]) == 2
    assert "Supervised__2d__fold_0__seed_0 could not start" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_weights_of_sam(study, tmp_path):
    (tmp_path / "s.yaml").write_text("sam: {models: [vit_b]}\nvit_b: {checkpoint: /nowhere/sam.pth}\n")
    made = study("--settings", str(tmp_path / "s.yaml"), trainers=["nnUNetTrainerSemiSAM"])
    with pytest.raises(UserError, match=r"SemiSAM__2d.*could not start.*/nowhere/sam\.pth, which is no file"):
        preflight.check_runs(made, open_dataset("3", "nnUNetPlans"), made.runs())
