"""Malformed splits, data and arguments: each error names what is wrong and the remedy, and nothing is left."""

import json
from pathlib import Path

import pytest
import SimpleITK
from small_dataset import DATASET_ID, NAME, SPLITS, write_image

from nnunet_semisam import cli

SPLIT = ["split", "-d", DATASET_ID, "--labeled", "1", "--overwrite", "-np", "1"]
BENCHMARK = ["benchmark", "-d", DATASET_ID, "-c", "2d", "--trainers", "nnUNetTrainerMeanTeacher", "--device", "cpu"]


def copy_image(source: Path, target: Path) -> None:
    """Write the same voxels with another data type, so that the files' bytes differ."""
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(source)), SimpleITK.sitkFloat32)
    SimpleITK.WriteImage(image, str(target))


def preprocessed(raw: Path) -> Path:
    return raw.parents[1] / "preprocessed" / NAME


def patient_in_training_and_test(raw):
    write_image(raw / "imagesTs" / "p0_frame05_0000.nii.gz", 50)
    return [*SPLIT], r"p0: imagesTr/p0_frame01 is for \w+ and imagesTs/p0_frame05 is for test.*Remove the cases"


def validation_image_among_the_unlabeled(raw):
    copy_image(raw / "imagesTr" / "p5_frame01_0000.nii.gz", raw / "imagesUl" / "scan_0000.nii.gz")
    return [*SPLIT, "--val", "p5"], r"imagesUl/scan \(train\) and imagesTr/p5_frame01 \(val\) hold the same image"


def group_is_no_regular_expression(raw):
    return [*SPLIT, "--group", "(p"], r"--group '\(p' is no regular expression .* Example: --group"


def group_misses_a_case(raw):
    return [*SPLIT, "--group", "p[0-4]"], r"finds no group in the case 'p5_frame01'.*widen the expression"


def order_names_a_stranger(raw):
    (raw.parents[1] / "order.txt").write_text("p1\np9\n")
    return [*SPLIT, "--order", str(raw.parents[1] / "order.txt")], r"order.txt names groups without labels: p9\. Known"


def order_is_missing(raw):
    return [*SPLIT, "--order", "nowhere.txt"], r"--order nowhere.txt cannot be read .*Write a group per line"


def nobody_left_to_train(raw):
    return [*SPLIT, "--val", "6"], r"--val 6: must be between 0 and 5"


def more_labels_than_patients(raw):
    return [*SPLIT, "--labeled", "1", "6"], r"--labeled 6: a number must be between 1 and 5"


def torn_image(raw):
    path = raw / "imagesTr" / "p1_frame09_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    return [*SPLIT], r"imagesTr/p1_frame09_0000.nii.gz cannot be read: .*Fix or remove the case"


def label_without_image(raw):
    (raw / "imagesTr" / "p1_frame09_0000.nii.gz").unlink()
    return [*SPLIT], r"imagesTr lacks the image of 1 labeled case\(s\): p1_frame09\. Add p1_frame09_0000.nii.gz"


def dataset_json_is_torn(raw):
    (raw / "dataset.json").write_text('{"file_ending')
    return [*SPLIT], r"dataset.json cannot be read as json .*It must be nnU-Net's"


def replanned_over_nnunets_own_plans(raw):
    return [*SPLIT, "--replan", "--plans-name", "nnUNetPlans"], r"--plans-name nnUNetPlans are nnU-Net's own.*Choose"


def budget_that_no_fold_has(raw):
    return [*BENCHMARK, "--labeled", "2"], r"--labeled 2: the folds of .*splits_final.json have 1 3 labeled groups"


def fold_that_is_not_there(raw):
    return [*BENCHMARK, "--folds", "5"], r"--folds 5: .*splits_final.json has folds 0 1"


def splits_are_torn(raw):
    (preprocessed(raw) / "splits_final.json").write_text('[{"train": ["p0')
    return [*BENCHMARK], r"splits_final.json cannot be read as json .*Delete it and make it again"


def test_cases_without_labels(raw):
    (raw / "labelsTs" / "t1_frame01.nii.gz").unlink()
    return [*BENCHMARK], r"no test case with a label.*--cases val"


def several_test_sets(raw):
    (raw / "semisam_test_sets.json").write_text(json.dumps({"one": ["t1_frame01"], "two": []}))
    return [*BENCHMARK], r"has several test sets: one, two\. Choose one with --test-set"


def fold_that_validates_on_itself(raw):
    split = {**SPLITS[0], "val": SPLITS[0]["train"]}
    (preprocessed(raw) / "splits_final.json").write_text(json.dumps([split]))
    return [*BENCHMARK, "--cases", "val"], r"Fold 0 validates on cases that it trains on \(p0_frame01.*Leave it out"


def test_image_that_was_trained_on(raw):
    copy_image(raw / "imagesTr" / "p0_frame01_0000.nii.gz", raw / "imagesTs" / "t2_0000.nii.gz")
    return [*BENCHMARK, "-np", "1"], r"imagesTr/p0_frame01 \(train\) and imagesTs/t2 \(test\) hold the same image"


def unknown_trainer(raw):
    return [
        *BENCHMARK,
        "--trainers",
        "nnUNetTrainerMeanTeecher",
    ], r"no such trainer; did you mean nnUNetTrainerMeanTeacher\? \(Your own"


def trainer_without_settings(raw):
    return [*BENCHMARK, "--trainers", "nnUNetTrainer"], r"--trainers nnUNetTrainer takes no settings.*the baseline"


def unknown_setting(raw):
    (raw.parents[1] / "s.yaml").write_text("num_epoch: 3\n")
    return [*BENCHMARK, "--settings", str(raw.parents[1] / "s.yaml")], r"'num_epoch' in .*s.yaml.*'num_epochs'"


def seed_in_the_settings(raw):
    (raw.parents[1] / "s.yaml").write_text("seed: 3\n")
    return [*BENCHMARK, "--settings", str(raw.parents[1] / "s.yaml")], r"s.yaml sets seed, .*--seeds\. Remove it"


def configuration_without_plans(raw):
    return [*BENCHMARK, "-c", "3d_lowres"], r"no configuration '3d_lowres'\. They have: 2d, 3d_fullres"


def seed_twice(raw):
    return [*BENCHMARK, "--seeds", "1", "1"], r"seeds names something twice: 1 1\. Name each once"


def device_that_is_not_here(raw):
    return [*BENCHMARK, "--device", "mps"], r"--device mps: torch sees no such device.*--device auto or cpu"


def gpu_that_is_not_here(raw):
    return [*BENCHMARK, "--executor", "local", "--gpus", "99"], r"--gpus '99': torch sees \d+ GPUs on this machine"


def no_process_to_compare_images(raw):
    return [*BENCHMARK, "-np", "0"], r"-np must be at least 1, got 0"


def seed_that_is_too_large(raw):
    return [*BENCHMARK, "--seeds", "4294967296"], r"--seeds 4294967296: .* below 2\*\*32"


def settings_are_a_pipe(raw):
    import os

    os.mkfifo(raw.parents[1] / "s.yaml")
    return [*BENCHMARK, "--settings", str(raw.parents[1] / "s.yaml")], r"s\.yaml is a pipe, and a file is needed"


def settings_name_a_setting_twice(raw):
    (raw.parents[1] / "s.yaml").write_text("num_epochs: 3\nnum_epochs: 4\n")
    return [*BENCHMARK, "--settings", str(raw.parents[1] / "s.yaml")], r"s\.yaml.*'num_epochs' is given twice"


def test_sets_are_no_lists(raw):
    (raw / "semisam_test_sets.json").write_text('{"one": 5}')
    return [*BENCHMARK, "--test-set", "one"], r"semisam_test_sets\.json: 'one' must be a list of cases, got 5"


def trainer_that_is_a_path(raw):
    return [*BENCHMARK, "--trainers", "../evil"], r"--trainers '\.\./evil': a trainer is named by its class"


def slurm_option_without_value(raw):
    return [*BENCHMARK, "--executor", "slurm", "--slurm", "gpu"], r"--slurm gpu: write KEY=VALUE"


def slurm_without_time_limit(raw):
    words = [*BENCHMARK, "--executor", "slurm", "--slurm", "gpus_per_node=1"]
    return words, r"without timeout_min: .* after 5 minutes.*for example: --slurm timeout_min=1440"


def folder_in_use(raw):
    (raw.parents[1] / "out").mkdir()
    (raw.parents[1] / "out" / "thesis.tex").touch()
    return [*BENCHMARK], r"out exists and is not a folder of a benchmark\. Choose another --out"


FAULTS = [
    patient_in_training_and_test,
    validation_image_among_the_unlabeled,
    group_is_no_regular_expression,
    group_misses_a_case,
    order_names_a_stranger,
    order_is_missing,
    nobody_left_to_train,
    more_labels_than_patients,
    torn_image,
    label_without_image,
    dataset_json_is_torn,
    replanned_over_nnunets_own_plans,
    budget_that_no_fold_has,
    fold_that_is_not_there,
    splits_are_torn,
    test_cases_without_labels,
    several_test_sets,
    fold_that_validates_on_itself,
    test_image_that_was_trained_on,
    unknown_trainer,
    trainer_without_settings,
    unknown_setting,
    seed_in_the_settings,
    configuration_without_plans,
    seed_twice,
    device_that_is_not_here,
    gpu_that_is_not_here,
    no_process_to_compare_images,
    seed_that_is_too_large,
    settings_are_a_pipe,
    settings_name_a_setting_twice,
    test_sets_are_no_lists,
    trainer_that_is_a_path,
    slurm_option_without_value,
    slurm_without_time_limit,
    folder_in_use,
]
test_sets_are_no_lists.__test__ = False
test_cases_without_labels.__test__ = test_image_that_was_trained_on.__test__ = False  # faults, not tests


@pytest.mark.parametrize(
    "out", ["file/out", "file", "", "x" * 300, "raw/Dataset003_X/imagesTr/out", "preprocessed/out"]
)
def test_folder_that_cannot_be_one_is_refused(raw, tmp_path, monkeypatch, capsys, out):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert cli.main([*BENCHMARK, "-o", out]) == 2
    assert "Choose another --out" in capsys.readouterr().err
    assert tree(tmp_path) == before


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("search_here")
def test_fault_is_named_with_its_remedy_and_nothing_is_left(fault, raw, tmp_path, capsys):
    import re

    words, message = fault(raw)
    if words[0] == "benchmark":
        words = [*words, "-o", str(tmp_path / "out")]
    before = tree(tmp_path)
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert re.search(message, error, re.DOTALL), error
    assert tree(tmp_path) == before
