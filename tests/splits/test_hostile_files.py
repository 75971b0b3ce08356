"""Whatever stands in the files that say who is labeled, hidden or of one patient: used, or refused by name."""

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.cases_of_fold import warnings_of_fold
from nnunet_semisam.splits.default_splits import SPLITS_FILE, ensure_splits
from nnunet_semisam.splits.folds import Fold, load_splits, read_fold
from nnunet_semisam.splits.label_budgets import (
    GROUPS_FILE,
    SPLIT_FILE,
    group_function,
    group_order,
    read_grouping,
    recorded_pattern,
)
from nnunet_semisam.splits.replan import PLANNED_ON, was_planned_without

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.text(max_size=6) | st.sampled_from(["a", "b", "../x", "a_seg", ".", "a_0000", "a\x00"])


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def one_fold(tmp_path: Path, **lists: object) -> Path:
    return write(tmp_path / SPLITS_FILE, [{"train": ["a"], "val": ["b"], **lists}])


# --------------------------------------------------------------------------------------------------------- folds


@pytest.mark.parametrize(
    "name",
    ["unlabelled", "Unlabeled", "unlabeled_cases", "un-labeled", "UNLABELED", "hidden", "training", "Validation"],
)
def test_list_with_almost_the_right_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=rf"fold 0: nothing reads the entry {name!r}\. The lists are called train, val"):
        read_fold(one_fold(tmp_path, **{name: ["c"]}), 0, ["a", "b", "c"])


def test_further_entries_are_told_and_used_by_nobody(tmp_path):
    fold = read_fold(one_fold(tmp_path, test=["c"], comment="mine"), 0, ["a", "b", "c"])
    assert fold.ignored == ("comment", "test")
    (warning,) = warnings_of_fold(fold, [], tmp_path)
    assert "nothing reads the entry comment, test" in warning


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a_seg", "a\nb", "", ".a", "a_0000", "a" * 300])
@pytest.mark.parametrize("part", ["train", "val", "unlabeled"])
def test_name_that_no_case_can_have_is_refused(tmp_path, part, name):
    with pytest.raises(UserError, match=rf"splits_final\.json, {part} of fold 0: .* cannot be the name of a case"):
        load_splits(one_fold(tmp_path, **{part: [name]}))


@pytest.mark.parametrize("lead", ["pipe", "nowhere", "loop"])
def test_split_that_is_no_file_is_neither_read_nor_replaced(tmp_path, lead):
    path = tmp_path / SPLITS_FILE
    if lead == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if lead == "loop" else "/nowhere")
    assert ensure_splits(tmp_path, tmp_path) == []
    with pytest.raises(UserError, match=r"splits_final\.json (is a pipe|cannot be read \(a link to)"):
        read_fold(path, 0, ["a"])
    assert os.path.lexists(path)


@FUZZ
@given(content=JSON)
def test_any_json_in_place_of_folds_is_read_or_refused(tmp_path, content):
    with contextlib.suppress(UserError):
        load_splits(write(tmp_path / SPLITS_FILE, content))


@FUZZ
@given(lists=st.fixed_dictionaries({name: st.lists(NAMES, max_size=3) for name in ("train", "val", "unlabeled")}))
def test_no_name_of_a_fold_leaves_its_folder(tmp_path, lists):
    with contextlib.suppress(UserError):
        fold = read_fold(one_fold(tmp_path, **lists), 0, ["a", "b"])
        assert {*fold.train, *fold.val, *fold.unlabeled} <= {"a", "b"}


# ------------------------------------------------------------------------------------------- both sides of a fold


def test_validation_on_training_cases_is_told_with_its_number(tmp_path):
    fold = Fold(["a", "b"], ["b", "c"], [])
    (warning,) = warnings_of_fold(fold, [], tmp_path)
    assert warning.startswith("1 of 2 validation case(s) are also training cases, so their Dice says nothing")
    assert warnings_of_fold(Fold(["a"], ["c"], ["b"]), ["u"], tmp_path) == []


@pytest.mark.parametrize(
    ("fold", "pool"),
    [
        (Fold(["p1_frame01"], ["p1_frame02"], []), []),
        (Fold(["a"], ["p1_frame02"], ["p1_frame01"]), []),
        (Fold(["a"], ["p1_frame02"], []), ["p1_frame01"]),
    ],
)
def test_patient_on_two_sides_is_told(tmp_path, fold, pool):
    (warning,) = warnings_of_fold(fold, pool, tmp_path)
    assert warning.startswith("1 group(s) (patients) are trained on and validated on")
    assert "p1: images" in warning


@pytest.mark.parametrize("who", ["converter", "split"])
def test_recorded_patients_count_and_not_only_names(tmp_path, monkeypatch, who):
    raw, preprocessed = tmp_path / "raw" / "Dataset001_X", tmp_path / "preprocessed" / "Dataset001_X"
    raw.mkdir(parents=True)
    preprocessed.mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    fold = Fold(["p1-a"], ["p1-b"], [])
    assert warnings_of_fold(fold, ["elsewhere"], preprocessed) == []
    if who == "converter":
        write(raw / GROUPS_FILE, {"pattern": "^([^-]+)-", "order": [], "val": []})
    else:
        write(preprocessed / SPLIT_FILE, {"group": "^([^-]+)-"})
    (warning,) = warnings_of_fold(fold, ["elsewhere"], preprocessed)
    assert "p1: imagesTr/p1-a is for train and imagesTr/p1-b is for val" in warning


def test_damaged_record_of_patients_is_told_and_stops_nothing(tmp_path):
    write(tmp_path / SPLIT_FILE, '{"group": "(')
    (warning,) = warnings_of_fold(Fold(["a"], ["b"], []), [], tmp_path)
    assert warning.startswith("which cases are of one patient is told by their names only: ")
    assert "semisam_split.json" in warning


# ------------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "case0"}, "order must be a list of groups, got 'case0'"),
        ({"val": None}, "val must be a list"),
        ({"order": [1]}, "1 cannot be the name of a group: it is a int"),
        ({"order": ["a", "a"]}, "order names a group twice"),
        ({"pattern": 3}, "pattern must be a text or null, got 3"),
        ({"pattern": "("}, r"the pattern '\(' is no regular expression"),
        ({"pattern": "a" * 3_000_000}, "has 3000000 characters, at most 500 are allowed"),
        ({"pattern": "^(([a-z]+)+)+$"}, "can take for ever"),
    ],
)
def test_malformed_groups_file_is_refused(tmp_path, change, message):
    write(tmp_path / GROUPS_FILE, {"pattern": None, "order": ["a"], "val": [], **change})
    with pytest.raises(UserError, match=rf"semisam_groups\.json.*{message}") as caught:
        read_grouping(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|b)*x", "((a*)b)+", "(?:x[a-z]+)*", "(a{1,}){2,}", "(a|aa)+$"])
def test_pattern_that_can_take_for_ever_is_refused(pattern):
    with pytest.raises(UserError, match=r"can take for ever\. Write it without"):
        group_function(pattern)


@pytest.mark.parametrize(
    ("pattern", "ways"),
    [
        (".*" * 12 + "!", 12),
        ("a?" * 30 + "a" * 30, 30),
        ("(a?){30}a{30}$", 30),
        ("((a+){4}){4}", 16),
        ("(a|aa){30}b", 30),
    ],
)
def test_pattern_with_many_repetitions_is_refused(pattern, ways):
    with pytest.raises(UserError, match=rf"in {ways} places .* can take for ever; at most 4 are allowed"):
        group_function(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?P<x>.+?)_(.*?)_([a-z]+)",
        "([a-z]+_){2}",
        "[0-9]{3}(a{2}){3}",
        "^([^_]+)_",
        "(patient[0-9]+)_",
        "^ID_[0-9a-f]+(?=_ID_[0-9a-f]+$)|^.+$",
        "(a|b)c+",
        "[(+]+x",
        r"\(a+\)+",
    ],
)
def test_usual_patterns_are_taken(pattern):
    group_function(pattern)


@FUZZ
@given(content=JSON, pattern=st.text(alphabet="ab(|)[]*+?{},1\\^$", max_size=12) | st.none())
def test_any_groups_file_is_read_or_refused(tmp_path, content, pattern):
    for text in (content, {"pattern": pattern, "order": content, "val": []}):
        write(tmp_path / GROUPS_FILE, text)
        with contextlib.suppress(UserError):
            recorded_pattern(tmp_path, tmp_path)


def test_order_that_is_no_file_is_refused_in_time(tmp_path):
    os.mkfifo(tmp_path / "order.txt")
    with pytest.raises(UserError, match=r"--order .*order\.txt is a pipe"):
        group_order({"a": ["a"]}, 1, tmp_path / "order.txt")


# -------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("record", ["all of them", None, 3, {}, [], [1], {"a": 1}])
def test_record_of_cases_that_is_no_list_proves_nothing(record):
    assert not was_planned_without({PLANNED_ON: record}, ["hidden"])
    assert was_planned_without({PLANNED_ON: ["a"]}, ["hidden"])
