import json
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.cases_of_fold import cases_of_fold, raw_of
from nnunet_semisam.splits.folds import Fold

IDENTIFIER = "nnUNetPlans_2d"
CASES = ["a", "b", "c"]
HIDING = [{"train": ["a"], "val": ["b"], "unlabeled": ["c"]}]


def plans(*schemes: str, masked: bool = False, **more: object) -> SimpleNamespace:
    """What :func:`cases_of_fold` asks of nnU-Net's configuration."""
    schemes = schemes or ("ZScoreNormalization",)
    return SimpleNamespace(
        normalization_schemes=list(schemes), use_mask_for_norm=[masked] * len(schemes), configuration=more
    )


@pytest.fixture
def preprocessed(tmp_path, monkeypatch) -> Path:
    """A dataset with three preprocessed labeled cases, and their labels in the raw folder."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    dataset = tmp_path / "preprocessed" / "Dataset001_X"
    (dataset / IDENTIFIER).mkdir(parents=True)
    labels = tmp_path / "raw" / "Dataset001_X" / "labelsTr"
    labels.mkdir(parents=True)
    (dataset / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    for case in CASES:
        (labels / f"{case}.nii.gz").touch()
        blosc2.asarray(np.zeros((1, 2, 3, 4), np.float32), urlpath=str(dataset / IDENTIFIER / f"{case}.b2nd"))
        for name in (f"{case}_seg.b2nd", f"{case}.pkl"):
            (dataset / IDENTIFIER / name).write_bytes(b"never opened here")
    return dataset


def read(preprocessed: Path, fold: int | str = 0, configuration=None, log=lambda message: None) -> Fold:
    return cases_of_fold(preprocessed, preprocessed / IDENTIFIER, fold, configuration or plans(), log)


def write(preprocessed: Path, splits: list) -> None:
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))


def test_fold_of_the_file_is_used(preprocessed):
    write(preprocessed, HIDING)
    assert read(preprocessed) == Fold(["a"], ["b"], ["c"])


def test_missing_split_is_made_and_told(preprocessed):
    told = []
    fold = read(preprocessed, log=told.append)
    assert sorted(fold.train + fold.val) == CASES
    assert fold.unlabeled == []
    assert told == [f"Wrote {preprocessed / 'splits_final.json'}: 3 fold(s) over 3 labeled cases."]


def test_fold_all_needs_and_makes_no_split(preprocessed):
    assert read(preprocessed, "all") == Fold(CASES, CASES, [])
    assert not (preprocessed / "splits_final.json").exists()


def test_fold_all_is_refused_where_labels_are_hidden(preprocessed):
    write(preprocessed, HIDING)
    with pytest.raises(UserError, match="hidden labels"):
        read(preprocessed, "all")


def test_missing_split_cannot_be_made_without_the_raw_folder(preprocessed, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match=r"nnUNet_raw is not set.*Run 'nnunet-semisam preprocess'"):
        read(preprocessed)
    write(preprocessed, HIDING)
    assert read(preprocessed).train == ["a"]  # with a split, training needs no raw data


def test_raw_folder_has_the_datasets_name(preprocessed, tmp_path):
    assert raw_of(preprocessed) == tmp_path / "raw" / "Dataset001_X"


@pytest.mark.parametrize(
    "configuration",
    [
        plans("CTNormalization"),
        plans("ZScoreNormalization", masked=True),
        # Plans owe nothing to hidden labels, but each case was masked with its own.
        plans("ZScoreNormalization", masked=True, semisam_planned_on=["a", "b"]),
    ],
)
def test_hidden_labels_are_refused_where_plans_or_images_have_seen_them(preprocessed, configuration):
    write(preprocessed, HIDING)
    with pytest.raises(UserError, match=r"hides labels.*Move the unlabeled cases to imagesUl.* plan again"):
        read(preprocessed, configuration=configuration)
    write(preprocessed, [{"train": ["a"], "val": ["b"], "unlabeled": []}])
    assert read(preprocessed, configuration=configuration).unlabeled == []


def test_plans_made_without_the_hidden_labels_are_accepted_and_others_are_not(preprocessed):
    write(preprocessed, HIDING)
    assert read(preprocessed, configuration=plans("CTNormalization", semisam_planned_on=["a", "b"])).unlabeled == ["c"]
    with pytest.raises(UserError, match="the plans were made with them"):
        read(preprocessed, configuration=plans("CTNormalization", semisam_planned_on=["a", "c"]))


def test_configuration_that_was_not_preprocessed_is_refused(preprocessed):
    with pytest.raises(UserError, match=r"There is no .*nnUNetPlans_3d_lowres\. Run nnUNetv2_preprocess"):
        cases_of_fold(preprocessed, preprocessed / "nnUNetPlans_3d_lowres", 0, plans(), print)


def test_folder_without_cases_or_of_two_formats_is_refused(preprocessed):
    (preprocessed / IDENTIFIER / "old.npz").touch()
    with pytest.raises(UserError, match=r"cases of one format .*got \.b2nd, \.npz, \.pkl\. Run nnUNetv2_preprocess"):
        read(preprocessed)
    for file in (preprocessed / IDENTIFIER).iterdir():
        file.unlink()
    with pytest.raises(UserError, match="got nothing"):
        read(preprocessed)
