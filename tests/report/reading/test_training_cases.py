"""What is known of a dataset is believed only while it is the same."""

import json

from invented import SPLITS

from nnunet_semisam.report.reading.training_cases import SplitRequest, TrainingCases, read_dataset


def test_dataset_is_believed_only_while_its_folds_are_the_same(benchmark_result, tmp_path, monkeypatch):
    folder = tmp_path / "Dataset901_Invented"
    (folder / "imagesUl").mkdir(parents=True)
    (folder / "imagesUl" / "u1_0000.nii.gz").touch()
    (folder / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    changed = [SPLITS[0], {**SPLITS[1], "train": ["a1_frame01"]}]
    (folder / "splits_final.json").write_text(json.dumps(changed))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    found = read_dataset(benchmark_result)
    assert found.folds == {0: TrainingCases(["a1_frame01"], ["a2_frame01", "a3_frame01", "u1"])}
    assert found.missing == "splits_final.json has changed since, in fold 1"
    monkeypatch.delenv("nnUNet_raw")
    assert "not set" in read_dataset(benchmark_result).missing


def test_what_split_was_called_with_is_known_while_the_folds_are_its(benchmark_result, tmp_path, monkeypatch):
    folder = tmp_path / "Dataset901_Invented"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    (folder / "splits_final.json").write_text(json.dumps(SPLITS))
    request = {"labeled": [1, 3], "val": ["v1"], "group": None, "seed": 4, "order": None}
    (folder / "semisam_split.json").write_text(json.dumps(request))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    assert read_dataset(benchmark_result).split is None  # no record of its budgets: another command made the folds
    (folder / "semisam_budgets.json").write_text("{}")
    assert read_dataset(benchmark_result).split == SplitRequest(("1", "3"), ("v1",), seed=4)


def test_a_damaged_file_is_no_error(benchmark_result, tmp_path, monkeypatch):
    (tmp_path / "Dataset901_Invented").mkdir()
    (tmp_path / "Dataset901_Invented" / "splits_final.json").write_text("[")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    assert "cannot be read any more" in read_dataset(benchmark_result).missing
