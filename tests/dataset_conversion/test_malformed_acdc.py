"""Faults of the official ACDC folder as a whole; those of single files are in ``test_malformed_inputs.py``."""

import shutil

import numpy as np
import pytest
from acdc_faults import image_constant, label_with_4, rewrite
from fake_acdc import SHAPE, write_patient, write_volume
from written_files import visible

from nnunet_semisam.errors import UserError


def test_all_faults_come_in_one_error(convert, database):
    training = database / "training"
    image_constant(training / "patient099")
    label_with_4(training / "patient099")
    write_volume(training / "patient050" / "patient050_frame01.nii.gz", np.zeros(SHAPE, np.int16))
    with pytest.raises(UserError, match="3 problems in") as error:
        convert("--labeled", "2")
    for name in ("patient099_frame01.nii.gz", "patient099_frame01_gt.nii.gz", "patient050_frame01.nii.gz"):
        assert f"{name}: " in str(error.value)


def test_all_missing_files_come_in_one_error(convert, database):
    for number in ("099", "050", "028"):
        (database / "training" / f"patient{number}" / f"patient{number}_frame01.nii.gz").unlink()
    with pytest.raises(UserError, match="3 problems in"):
        convert("--labeled", "2")


def test_tiny_header_differences_are_no_fault(convert, database):
    path = database / "training" / "patient099" / "patient099_frame01_gt.nii.gz"
    rewrite(path, lambda image: image.SetOrigin((0.0, 0.0005, 0.0)))
    assert not convert("--labeled", "2").already_there


def test_faults_of_patients_that_are_not_used_do_not_matter(convert, database):
    (write_patient(database / "training", "123") / "Info.cfg").unlink()
    assert not convert("--labeled", "2").already_there


def test_half_labeled_test_patient_is_a_fault(convert, database):
    (write_patient(database / "testing", "101") / "patient101_frame09_gt.nii.gz").unlink()
    with pytest.raises(UserError, match=r"patient101_frame09_gt.nii.gz: is missing"):
        convert("--labeled", "2")


def test_broken_test_patient_can_be_left_out_as_the_error_says(convert, database, raw):
    write_patient(database / "testing", "101")
    path = write_patient(database / "testing", "102") / "patient102_frame09.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"Or leave cases out: --leave-out patient102_frame09$"):
        convert("--labeled", "2")
    assert visible(raw) == []
    result = convert("--labeled", "2", "--leave-out", "patient102_frame09")
    assert sorted(path.name[:10] for path in result.folder.glob("labelsTs/*")) == ["patient101", "patient101"]
    assert result.conversion.test_sets == {"official": ["patient101_frame01", "patient101_frame09"]}
    assert "left out as asked: patient102" in result.notes


def test_patient_in_training_and_testing_is_a_fault(convert, database):
    shutil.copytree(database / "training" / "patient028", database / "testing" / "patient028")
    with pytest.raises(UserError, match=r"testing/patient028/.* is the same case as .*training/patient028"):
        convert("--labeled", "2")


@pytest.mark.parametrize("inside", ["database/..", "database/training"])
def test_wrong_level_of_the_folder_offers_the_right_one(convert, tmp_path, inside):
    (tmp_path / "database" / "testing").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"must hold the official folder training/.* Did you mean -i .*database\?"):
        convert("--labeled", "2", source=tmp_path / inside)


def test_folder_without_patients_is_refused(convert, tmp_path):
    (tmp_path / "empty" / "training").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no folder patient001"):
        convert("--labeled", "2", source=tmp_path / "empty")
    with pytest.raises(UserError, match="Download"):
        convert("--labeled", "2", source=tmp_path / "nowhere" / "at" / "all")


@pytest.mark.parametrize(
    ("labeled", "message"),
    [
        (["0"], "between 1 and 70"),
        (["71"], "between 1 and 70"),
        (["099"], "write their whole names"),
        (["2", "2"], "same number twice"),
        (["2", "patient099"], "numbers or names, not both"),
        (["patient099", "patient099"], "something twice"),
        (["patient028"], "not among the 70 .*validation and test patients"),
        (["patient999"], "not among the 70"),
        (["patient058"], "needs patient058, which the data folder lacks"),
        (["-3"], "a number must be positive: between 1 and 70"),
    ],
)
def test_impossible_label_budget_is_refused(convert, raw, labeled, message):
    with pytest.raises(UserError, match=message):
        convert("--labeled", *labeled)
    assert visible(raw) == []
