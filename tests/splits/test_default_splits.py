import json

import pytest

from nnunet_semisam.data.raw_files import label_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.default_splits import SPLITS_FILE, ensure_splits
from nnunet_semisam.splits.folds import load_splits


@pytest.fixture
def folders(tmp_path):
    """Return the preprocessed and the raw folder of a dataset with these labeled cases."""

    def make(*cases: str):
        raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
        (raw / "labelsTr").mkdir(parents=True)
        preprocessed.mkdir()
        (preprocessed / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
        for case in cases:
            (raw / "labelsTr" / f"{case}.nii.gz").touch()
        return preprocessed, raw

    return make


def test_split_that_is_there_is_left_alone(folders):
    preprocessed, raw = folders("a", "b")
    (preprocessed / SPLITS_FILE).write_text("mine")
    assert ensure_splits(preprocessed, raw) == []
    assert (preprocessed / SPLITS_FILE).read_text() == "mine"


def test_split_of_the_raw_folder_is_taken_over(folders):
    preprocessed, raw = folders("a", "b")
    splits = [{"train": ["a"], "val": ["b"], "unlabeled": []}]
    (raw / SPLITS_FILE).write_text(json.dumps(splits))
    assert ensure_splits(preprocessed, raw) == [f"Copied {SPLITS_FILE} from {raw}."]
    assert load_splits(preprocessed / SPLITS_FILE) == splits


@pytest.mark.parametrize("content", ['[{"train": ["a"]', "{}", '[{"train": "a", "val": ["b"]}]'])
def test_faulty_split_of_the_raw_folder_is_refused_and_not_copied(folders, content):
    preprocessed, raw = folders("a", "b")
    (raw / SPLITS_FILE).write_text(content)
    with pytest.raises(UserError, match=str(raw / SPLITS_FILE)):
        ensure_splits(preprocessed, raw)
    assert [file.name for file in preprocessed.iterdir()] == ["dataset.json"]


@pytest.mark.parametrize(("count", "folds"), [(2, 2), (3, 3), (5, 5), (8, 5)])
def test_labeled_cases_are_divided_into_at_most_five_folds(folders, count, folds):
    cases = [f"case{i}" for i in range(count)]
    preprocessed, raw = folders(*cases)
    messages = ensure_splits(preprocessed, raw)
    assert messages == [f"Wrote {preprocessed / SPLITS_FILE}: {folds} fold(s) over {count} labeled cases."]
    splits = load_splits(preprocessed / SPLITS_FILE)
    assert len(splits) == folds
    assert sorted(case for split in splits for case in split["val"]) == cases
    for split in splits:
        assert sorted(split["train"] + split["val"]) == cases


def test_frames_of_a_patient_stay_together(folders):
    preprocessed, raw = folders("p1_frame01", "p1_frame12", "p2_frame01", "p2_frame09")
    ensure_splits(preprocessed, raw)
    for split in load_splits(preprocessed / SPLITS_FILE):
        assert {case[:2] for case in split["train"]}.isdisjoint(case[:2] for case in split["val"])


def test_single_case_validates_on_itself_with_a_warning(folders):
    preprocessed, raw = folders("only")
    messages = ensure_splits(preprocessed, raw)
    assert messages[1].startswith("WARNING: there is one labeled group only")
    assert load_splits(preprocessed / SPLITS_FILE) == [{"train": ["only"], "val": ["only"]}]


def test_dataset_without_labels_is_refused(folders):
    with pytest.raises(UserError, match=r"labelsTr \(files ending in .nii.gz\) holds no labels"):
        ensure_splits(*folders())


def test_only_files_of_the_datasets_ending_are_cases(folders):
    _, raw = folders("b", "a")
    for name in ("notes.txt", "._a.nii.gz"):
        (raw / "labelsTr" / name).touch()
    assert list(label_files(raw, {"file_ending": ".nii.gz"})) == ["a", "b"]


def test_cases_that_dataset_json_lists_are_divided_and_no_others(folders):
    preprocessed, raw = folders("a", "b", "c")
    entries = {case: {"images": [f"x/{case}.nii.gz"], "label": f"y/{case}.nii.gz"} for case in ("b", "d")}
    (preprocessed / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz", "dataset": entries}))
    ensure_splits(preprocessed, raw)
    assert load_splits(preprocessed / SPLITS_FILE)[0].keys() == {"train", "val"}
    assert sorted(split["val"] for split in load_splits(preprocessed / SPLITS_FILE)) == [["b"], ["d"]]
