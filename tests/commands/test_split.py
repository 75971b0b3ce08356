"""``split``: nested budgets, validation cases of their own, and no leak that goes unseen."""

import argparse
import json

import numpy as np
import pytest
import SimpleITK
import tiny_nnunet

from nnunet_semisam.commands import split
from nnunet_semisam.data.label_budgets import BUDGETS_FILE, SPLIT_FILE
from nnunet_semisam.data.replan import PLANNED_ON, was_planned_without
from nnunet_semisam.errors import UserError

PATIENTS = [f"p{i}" for i in range(6)]


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Six patients with two frames each, one unlabeled and one test patient; images of 2 x 3 x 4 voxels."""
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    folder = tmp_path / "raw" / "Dataset003_X"
    cases = {f"{p}_frame{f:02d}": "Tr" for p in PATIENTS for f in (1, 9)} | {"u1_frame01": "Ul", "t1_frame01": "Ts"}
    for seed, (case, part) in enumerate(cases.items()):
        write_image(folder / f"images{part}" / f"{case}_0000.nii.gz", seed)
        if part == "Tr":
            write_image(folder / "labelsTr" / f"{case}.nii.gz", 0)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": 12}))
    (tmp_path / "preprocessed").mkdir()
    return folder


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 100, (2, 3, 4)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))


def cut(*options: str) -> None:
    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    split.run(parser.parse_args(["-d", "3", "-np", "1", *options]))


def folds_of(raw):
    return json.loads((raw.parents[1] / "preprocessed" / raw.name / "splits_final.json").read_text())


def patients(cases):
    return {case.split("_")[0] for case in cases}


def test_budgets_are_nested_share_validation_and_keep_frames_together(raw, capsys):
    cut("--labeled", "1", "3", "--seed", "4")
    one, three = folds_of(raw)
    assert patients(one["train"]) < patients(three["train"])
    assert (len(one["train"]), len(three["train"])) == (2, 6)
    assert one["val"] == three["val"]
    assert len(one["val"]) == 2
    for fold in (one, three):
        parts = [patients(fold[name]) for name in ("train", "val", "unlabeled")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
    text = capsys.readouterr().out
    assert "fold 1: 3 labeled groups (6 cases), 2 validation cases, 4 hide their labels" in text
    assert "nnUNetv2_find_best_configuration" in text


def test_budgets_and_choices_are_written_down(raw):
    cut("--labeled", "2", "--seed", "4", "--group", "^[a-z][0-9]")
    folder = raw.parents[1] / "preprocessed" / raw.name
    record = json.loads((folder / BUDGETS_FILE).read_text())
    assert record["0"]["budget"] == 2
    assert set(record["0"]["labeled_patients"]) == patients(folds_of(raw)[0]["train"])
    chosen = json.loads((folder / SPLIT_FILE).read_text())
    assert (chosen["seed"], chosen["group"], len(chosen["val"])) == (4, "^[a-z][0-9]", 1)


def test_order_file_decides_and_the_rest_follows_by_seed(raw, tmp_path):
    (tmp_path / "order.txt").write_text("p4  # the first one\n\np1\n")
    cut("--labeled", "1", "2", "--order", str(tmp_path / "order.txt"), "--val", "p0", "p5")
    one, two = folds_of(raw)
    assert patients(one["train"]) == {"p4"}
    assert patients(two["train"]) == {"p4", "p1"}
    assert patients(one["val"]) == {"p0", "p5"}


def test_same_command_again_changes_nothing_and_another_is_refused(raw):
    cut("--labeled", "1")
    before = folds_of(raw)
    cut("--labeled", "1")
    with pytest.raises(UserError, match=r"splits_final\.json holds other folds"):
        cut("--labeled", "2")
    assert folds_of(raw) == before
    cut("--labeled", "2", "--overwrite")
    assert len(folds_of(raw)[0]["train"]) == 4


def test_seed_changes_who_is_labeled(raw):
    chosen = set()
    for seed in range(4):
        cut("--labeled", "1", "--seed", str(seed), "--overwrite")
        chosen |= patients(folds_of(raw)[0]["train"])
    assert len(chosen) > 1


def test_an_image_that_is_twice_in_training_is_a_note(raw, capsys):
    image = SimpleITK.ReadImage(str(raw / "imagesTr" / "p1_frame01_0000.nii.gz"))
    SimpleITK.WriteImage(SimpleITK.Cast(image, SimpleITK.sitkFloat32), str(raw / "imagesUl" / "copy_0000.nii.gz"))
    cut("--labeled", "1", "--val", "p0")
    assert "imagesTr/p1_frame01 (train) and imagesUl/copy (train) hold the same image" in capsys.readouterr().out


def test_replanning_sees_labeled_and_validation_cases_only(tiny_dataset, monkeypatch):
    """The plans' intensities are those of the cases they may see, by a calculation of our own."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    labels = tiny_dataset / "raw" / tiny_nnunet.DATASET / "labelsTr"
    for case in tiny_nnunet.LABELED[4:]:
        (labels / f"{case}.nii.gz").write_bytes(b"a hidden label that must not even be opened")
    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    options = ["--labeled", "1", "2", "--val", "case3", "--order", str(tiny_dataset / "order"), "--overwrite"]
    (tiny_dataset / "order").write_text("case0\ncase1\n")
    split.run(parser.parse_args(["-d", str(tiny_nnunet.DATASET_ID), "-np", "1", "--replan", *options]))
    plans = json.loads((tiny_dataset / "preprocessed" / tiny_nnunet.DATASET / "nnUNetPlansLabeled.json").read_text())
    configuration = plans["configurations"]["2d"]
    assert configuration[PLANNED_ON] == ["case0", "case3"]
    assert configuration["data_identifier"] == "nnUNetPlansLabeled_2d"
    assert was_planned_without(configuration, ["case1", "case2"])
    assert not was_planned_without(configuration, ["case3"])
    seen = [tiny_nnunet.volume(int(case[-1])) for case in ("case0", "case3")]
    foreground = np.concatenate([image.astype(np.float32)[label > 0] for image, label in seen])
    found = plans["foreground_intensity_properties_per_channel"]["0"]
    assert found["min"] == pytest.approx(foreground.min(), abs=1.0)  # the planner draws voxels with replacement
    assert found["mean"] == pytest.approx(foreground.mean(), abs=1.0)
