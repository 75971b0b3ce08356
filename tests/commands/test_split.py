"""``split``: nested budgets, validation cases of their own, and no leak that goes unseen."""

import argparse
import json
from pathlib import Path

import pytest
import SimpleITK
from split_world import PATIENTS, cut, folds_of, patients

from nnunet_semisam.commands import convert
from nnunet_semisam.errors import UserError
from nnunet_semisam.io import json_files
from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, SPLIT_FILE, read_grouping


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
    assert sorted(chosen["order"]) == PATIENTS
    assert chosen["order"][-1:] == chosen["val"]
    assert set(chosen["order"][:2]) == set(record["0"]["labeled_patients"])


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


def convert_all(raw, *options: str) -> Path:
    """Convert the raw dataset into another one with all labels; return its folder."""
    parser = argparse.ArgumentParser()
    converter = convert.load_package().CONVERTERS.get("nnunet")()
    converter.add_arguments(parser)
    words = ["-i", str(raw), "-d", "4", "--name", "Y", "--labeled", "all", "-np", "1", *options]
    return converter.convert(parser.parse_args(words)).folder


def test_converted_dataset_keeps_groups_order_and_validation(raw):
    folder = convert_all(raw, "--group", "^[a-z]([0-9])", "--val", "+2", "--leave-out", "u1_frame01", "t1_frame01")
    written = read_grouping(folder)
    with pytest.raises(UserError, match=r"--labeled 1 2: 1 may be a number or a name"):
        cut("--labeled", "1", "2", "--overwrite", dataset="4")
    cut("--labeled", "+1", "+2", "--overwrite", dataset="4")
    one, two = folds_of(folder)
    assert [patients(fold["train"]) for fold in (one, two)] == [
        {f"p{i}" for i in written.order[:1]},
        {f"p{i}" for i in written.order[:2]},
    ]
    assert patients(one["val"]) == {f"p{i}" for i in written.val}
    chosen = json.loads((raw.parents[1] / "preprocessed" / folder.name / SPLIT_FILE).read_text())
    assert chosen["group"] == "^[a-z]([0-9])"
    convert_all(folder, "--labeled", "+1", "-d", "5", "--name", "Z")  # its validation patients are numbers, too
    cut("--labeled", "1", "--group", "^[a-z][0-9]", "--overwrite", dataset="4")
    assert len(folds_of(folder)[0]["val"]) == 2  # another grouping: a fifth of six patients, of two frames each


def test_convert_and_split_choose_the_same_patients(raw):
    budgets = json.loads((convert_all(raw, "--labeled", "2") / BUDGETS_FILE).read_text())
    cut("--labeled", "2")
    assert set(budgets["0"]["labeled_patients"]) == patients(folds_of(raw)[0]["train"])


def test_folds_of_the_raw_folder_follow_or_nnunets_planner_stops(raw, capsys):
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import _maybe_copy_splits_file

    folder = convert_all(raw)
    preprocessed = raw.parents[1] / "preprocessed" / folder.name
    before = (folder / "splits_final.json").read_bytes()
    with pytest.raises(UserError, match=r"raw/Dataset004_Y/splits_final.json holds other folds.*--overwrite"):
        cut("--labeled", "1", "3", dataset="4")
    assert (folder / "splits_final.json").read_bytes() == before
    assert not preprocessed.exists()
    for number in ("3", "2"):
        cut("--labeled", "1", number, "--overwrite", dataset="4")
        _maybe_copy_splits_file(str(folder / "splits_final.json"), str(preprocessed / "splits_final.json"))
        assert json.loads((folder / "splits_final.json").read_text()) == folds_of(folder)
        assert (folder / BUDGETS_FILE).read_text() == (preprocessed / BUDGETS_FILE).read_text()
    assert "raw/Dataset004_Y/splits_final.json: the same folds, or nnU-Net's planner" in capsys.readouterr().out


def test_folds_are_written_to_both_folders_or_to_none(raw, monkeypatch):
    folder = convert_all(raw)
    cut("--labeled", "1", "--overwrite", dataset="4")
    preprocessed = raw.parents[1] / "preprocessed" / folder.name
    before = {path: path.read_bytes() for path in [*preprocessed.iterdir(), *folder.glob("*.json")]}
    replace, begun = json_files.os.replace, []

    def fail_at_the_last(source, target):
        begun.append(target)
        if len(begun) == 5:
            raise OSError("no space left on device")
        replace(source, target)

    monkeypatch.setattr(json_files.os, "replace", fail_at_the_last)
    with pytest.raises(UserError, match=r"no space left on device.*nothing was changed"):
        cut("--labeled", "2", "--overwrite", dataset="4")
    assert {path: path.read_bytes() for path in [*preprocessed.iterdir(), *folder.glob("*.json")]} == before


def test_cross_validation_hides_the_labels_of_all_others(raw):
    cut("--labeled", "3", "--val", "0")
    folds = folds_of(raw)
    labeled = patients(folds[0]["train"] + folds[0]["val"])
    assert (len(folds), len(labeled)) == (3, 3)
    for fold in folds:
        assert patients(fold["train"]) | patients(fold["val"]) == labeled
        assert patients(fold["unlabeled"]) == {*PATIENTS} - labeled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labeled", "-1"), "--labeled -1: a number must be positive: between 1 and 5"),
        (("--labeled", "1", "--replan", "--plans-name", "../x"), r"--plans-name '../x' must be a plain name"),
        (("--labeled", "1", "--replan", "--plans-name", ".."), r"--plans-name '..' must be a plain name"),
    ],
)
def test_impossible_option_is_refused(raw, options, message):
    before = sorted(raw.parents[1].rglob("*"))
    with pytest.raises(UserError, match=message):
        cut(*options)
    assert sorted(raw.parents[1].rglob("*")) == before


def test_hidden_labels_of_ct_need_plans_of_their_own(raw):
    content = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(content | {"channel_names": {"0": "CT"}}))
    with pytest.raises(UserError, match=r"Channel CT is normalised with numbers from all labels .* Add --replan"):
        cut("--labeled", "1")
    cut("--labeled", "all")  # hides nothing


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
