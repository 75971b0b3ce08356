import json
import os

import pytest

from nnunet_semisam.errors import UserError
from nnunet_semisam.io import json_files
from nnunet_semisam.splits.folds import (
    Fold,
    default_group,
    has_unlabeled_lists,
    load_splits,
    make_splits,
    read_fold,
    same_splits,
    validates_on_itself,
    write_splits,
)

CASES = ["a", "b", "c", "d", "e"]
HIDING = [{"train": ["a"], "val": ["b"], "unlabeled": ["c", "d"]}, {"train": ["a", "c"], "val": ["b"]}]


@pytest.fixture
def splits_file(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(HIDING))
    return path


def test_fold_is_read_with_its_unlabeled_list(splits_file):
    assert read_fold(splits_file, 0, CASES) == Fold(train=["a"], val=["b"], unlabeled=["c", "d"])
    assert read_fold(splits_file, "1", CASES) == Fold(train=["a", "c"], val=["b"], unlabeled=[])


def test_fold_that_is_not_in_the_file_is_refused(splits_file):
    for fold in (2, -1, "x"):
        with pytest.raises(UserError, match=r"no fold .* it has 2, numbered 0 to 1.*80:20"):
            read_fold(splits_file, fold, CASES)


def test_fold_all_is_refused_when_any_fold_hides_labels(splits_file):
    with pytest.raises(UserError, match="hidden labels"):
        read_fold(splits_file, "all", CASES)


def test_fold_all_takes_every_case_when_nothing_is_hidden(splits_file):
    write_splits(splits_file, [{"train": ["a"], "val": ["b"], "unlabeled": []}], overwrite=True)
    assert read_fold(splits_file, "all", ["b", "a"]) == Fold(train=["a", "b"], val=["a", "b"], unlabeled=[])


def test_fold_all_needs_no_file_but_cases(tmp_path):
    assert read_fold(tmp_path / "none.json", "all", ["a"]).val == ["a"]
    with pytest.raises(UserError, match="no case"):
        read_fold(tmp_path / "none.json", "all", [])


def test_missing_file_names_the_commands_that_make_it(tmp_path):
    with pytest.raises(UserError, match=r"nnunet-semisam convert.*nnunet-semisam preprocess"):
        read_fold(tmp_path / "splits_final.json", 0, CASES)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"train": ["a", "zebra"], "val": ["b"]}, r"train cases that are not .*zebra"),
        ({"train": ["a"], "val": ["yak", "b"]}, r"val cases that are not .*yak"),
        ({"train": ["a"], "val": ["b"], "unlabeled": ["gnu", "emu"]}, r"unlabeled cases that are not .*emu, gnu"),
        ({"train": ["a", "c"], "val": ["b"], "unlabeled": ["c"]}, r"both as unlabeled and as train: c"),
        ({"train": ["a"], "val": ["b"], "unlabeled": ["b"]}, r"both as unlabeled and as val: b"),
        ({"train": ["a", "a"], "val": ["b"]}, r"train cases more than once: a"),
        ({"train": ["a"], "val": ["b"], "unlabeled": ["c", "c"]}, r"unlabeled cases more than once: c"),
        ({"train": [], "val": ["b"]}, r"no training case. List"),
        ({"train": ["a"], "val": []}, r"no validation case.*List a labeled case under val"),
    ],
)
def test_wrong_fold_is_refused_with_the_names(tmp_path, fold, message):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([fold]))
    with pytest.raises(UserError, match=message):
        read_fold(path, 0, CASES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"train": ["a"], "va', "cannot be read as json"),
        ("[]", "length 0"),
        ('{"train": [], "val": []}', "got dict"),
        ("3", "got int"),
        ('[{"train": ["a"]}]', "fold 0 lacks train or val"),
        ('[{"train": "a", "val": ["b"]}]', "train of fold 0 is not a list"),
        ('[{"train": ["a"], "val": [1]}]', "val of fold 0 is not a list"),
        ('[{"train": ["a"], "val": ["b"], "unlabeled": null}]', "unlabeled of fold 0 is not a list"),
    ],
)
def test_malformed_file_is_refused(tmp_path, text, message):
    path = tmp_path / "splits_final.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        has_unlabeled_lists(path)


def test_unlabeled_lists_are_noticed_in_any_fold(tmp_path):
    path = tmp_path / "splits_final.json"
    assert not has_unlabeled_lists(path)
    write_splits(path, [{"train": ["a"], "val": ["b"], "unlabeled": []}])
    assert not has_unlabeled_lists(path)
    write_splits(path, [{"train": ["a"], "val": ["b"]}, HIDING[0]], overwrite=True)
    assert has_unlabeled_lists(path)


@pytest.mark.parametrize(
    ("case", "group"),
    [
        ("patient001_frame01", "patient001"),
        ("patient101_frame12", "patient101"),
        ("case-7-frame3", "case-7"),
        ("ID_0f3a_ID_9c", "ID_0f3a_ID_9c"),
        ("frame01", "frame01"),
        ("la_frameless", "la_frameless"),
    ],
)
def test_group_is_everything_up_to_the_frame(case, group):
    assert default_group(case) == group


def test_folds_are_nnunets_own_where_every_case_is_a_group():
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    cases = [f"case_{i:02d}" for i in range(13)]
    expected = generate_crossval_split(cases, seed=12345, n_splits=5)
    assert same_splits(make_splits(cases), expected)


@pytest.mark.parametrize(("patients", "folds"), [(2, 2), (4, 4), (5, 5), (9, 5)])
def test_frames_of_a_patient_stay_together_and_every_case_is_validated_once(patients, folds):
    cases = [f"patient{i:03d}_frame{frame:02d}" for i in range(patients) for frame in (1, 12)]
    splits = make_splits(cases, default_group)
    assert len(splits) == folds
    for split in splits:
        assert not {default_group(case) for case in split["train"]} & {default_group(case) for case in split["val"]}
        assert sorted(split["train"] + split["val"]) == cases
    assert sorted(case for split in splits for case in split["val"]) == cases
    assert not any(map(validates_on_itself, splits))


def test_single_group_validates_on_itself():
    splits = make_splits(["patient001_frame12", "patient001_frame01"])
    assert splits == [{"train": ["patient001_frame01", "patient001_frame12"], "val": splits[0]["train"]}]
    assert validates_on_itself(splits[0])


def test_folds_follow_the_seed_and_not_the_order_of_cases():
    cases = [f"case_{i}" for i in range(10)]
    assert make_splits(cases) == make_splits(cases[::-1])
    assert not same_splits(make_splits(cases), make_splits(cases, seed=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cases": []}, "no labeled case"),
        ({"cases": ["a", "a"]}, "twice: a"),
        ({"cases": ["a", "b"], "k": 1}, "2 folds"),
    ],
)
def test_impossible_folds_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        make_splits(**arguments)


def test_written_folds_are_read_back_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "splits_final.json"
    write_splits(path, HIDING)
    assert load_splits(path) == HIDING
    assert os.listdir(tmp_path) == ["splits_final.json"]


def test_other_folds_are_not_overwritten_unless_told(splits_file):
    other = [{"train": ["a"], "val": ["b"], "unlabeled": ["c"]}]
    with pytest.raises(UserError, match="holds other folds"):
        write_splits(splits_file, other)
    assert load_splits(splits_file) == HIDING
    write_splits(splits_file, other, overwrite=True)
    assert load_splits(splits_file) == other


def test_same_folds_in_another_order_are_left_alone(splits_file):
    before = splits_file.read_bytes()
    write_splits(splits_file, [{**HIDING[0], "unlabeled": ["d", "c"]}, HIDING[1]])
    assert splits_file.read_bytes() == before


def test_hidden_cases_make_a_difference_between_folds():
    assert not same_splits([{"train": ["a"], "val": ["b"]}], [{"train": ["a"], "val": ["b"], "unlabeled": ["c"]}])


def test_malformed_folds_are_not_written(tmp_path):
    with pytest.raises(UserError, match="lacks train or val"):
        write_splits(tmp_path / "splits_final.json", [{"train": ["a"]}])
    assert os.listdir(tmp_path) == []


def test_failed_write_leaves_the_old_file(splits_file, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(json_files.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_splits(splits_file, HIDING[:1], overwrite=True)
    assert load_splits(splits_file) == HIDING
    assert os.listdir(splits_file.parent) == ["splits_final.json"]
