"""Every fault of a source folder: an error that names the file and the remedy, and nothing left behind."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_acdc import SHAPE, write_patient, write_volume

from nnunet_semisam.errors import UserError


def rewrite(path, change):
    image = sitk.ReadImage(str(path))
    changed = change(image) or image
    sitk.WriteImage(changed, str(path))


def image_missing(patient):
    (patient / "patient099_frame09.nii.gz").unlink()
    return r"patient099_frame09.nii.gz: is missing, but Info.cfg says `ES: 9`. Add it"


def image_not_gzipped(patient):
    (patient / "patient099_frame09.nii.gz").rename(patient / "patient099_frame09.nii")
    return r"patient099_frame09.nii.gz: is missing, but patient099_frame09.nii is there. Compress it with gzip"


def label_missing(patient):
    (patient / "patient099_frame01_gt.nii.gz").unlink()
    return r"patient099_frame01_gt.nii.gz: is missing; this patient needs labels"


def label_without_image(patient):
    shutil.copy(patient / "patient099_frame01_gt.nii.gz", patient / "patient099_frame05_gt.nii.gz")
    return r"patient099_frame05_gt.nii.gz: is neither the ED nor the ES frame"


def frame_too_many(patient):
    shutil.copy(patient / "patient099_frame01.nii.gz", patient / "patient099_frame05.nii.gz")
    return r"patient099_frame05.nii.gz: is neither the ED nor the ES frame of Info.cfg"


def info_missing(patient):
    (patient / "Info.cfg").unlink()
    return r"patient099/Info.cfg: is missing. .* copy it from the official download"


def info_without_es(patient):
    (patient / "Info.cfg").write_text("ED: 1\n")
    return r"patient099/Info.cfg: ES is ''; it must hold lines like"


def info_with_words(patient):
    (patient / "Info.cfg").write_text("ED: one\nES: 9\n")
    return r"patient099/Info.cfg: ED is 'one'"


def info_with_equal_frames(patient):
    (patient / "Info.cfg").write_text("ED: 9\nES: 9\n")
    return r"patient099/Info.cfg: ED and ES are both frame 09"


def image_truncated(patient):
    path = patient / "patient099_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    return r"patient099_frame01.nii.gz: cannot be read .* Download or export it again"


def image_of_text(patient):
    (patient / "patient099_frame01.nii.gz").write_text("<html>404</html>")
    return r"patient099_frame01.nii.gz: cannot be read"


def image_with_nan(patient):
    array = np.ones(SHAPE, np.float32)
    array[0, 0, :2] = [np.nan, np.inf]
    write_volume(patient / "patient099_frame01.nii.gz", array)
    return r"patient099_frame01.nii.gz: 2 of 360 voxels are NaN or infinite"


def image_constant(patient):
    write_volume(patient / "patient099_frame01.nii.gz", np.full(SHAPE, 7, np.int16))
    return r"patient099_frame01.nii.gz: every voxel is 7"


def image_with_time(patient):
    image = sitk.GetImageFromArray(np.zeros((2, *SHAPE), np.int16), isVector=False)
    sitk.WriteImage(image, str(patient / "patient099_frame01.nii.gz"))
    return r"patient099_frame01.nii.gz: must be a 3D image .* has 4 axes"


def image_dangling(patient):
    path = patient / "patient099_frame01.nii.gz"
    path.unlink()
    path.symlink_to("nowhere")
    return r"patient099_frame01.nii.gz cannot be read .* Mend its link"


def label_with_4(patient):
    write_volume(patient / "patient099_frame01_gt.nii.gz", np.full(SHAPE, 4, np.uint8))
    return r"patient099_frame01_gt.nii.gz: has label values 4; allowed are 0, 1, 2, 3"


def label_with_fractions(patient):
    write_volume(patient / "patient099_frame01_gt.nii.gz", np.full(SHAPE, 1.5, np.float32))
    return r"patient099_frame01_gt.nii.gz: has label values 1.5"


def label_with_nan(patient):
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, 0] = np.nan
    write_volume(patient / "patient099_frame01_gt.nii.gz", array)
    return r"patient099_frame01_gt.nii.gz: has label values nan"


def label_of_other_size(patient):
    write_volume(patient / "patient099_frame01_gt.nii.gz", np.zeros((3, 10, 13), np.uint8))
    return r"frame01_gt.nii.gz: size is \(13, 10, 3\), must be \(12, 10, 3\) as in patient099_frame01.nii.gz"


def label_of_other_spacing(patient):
    write_volume(patient / "patient099_frame01_gt.nii.gz", np.zeros(SHAPE, np.uint8), (1.5, 1.4, 10.0))
    return r"frame01_gt.nii.gz: spacing is \(1.5, 1.4, 10\), must be \(1.5, 1.5, 10\)"


def label_of_other_origin(patient):
    rewrite(patient / "patient099_frame01_gt.nii.gz", lambda image: image.SetOrigin((0.0, 0.1, 0.0)))
    return r"frame01_gt.nii.gz: origin is"


def label_of_other_direction(patient):
    path = patient / "patient099_frame01_gt.nii.gz"
    rewrite(path, lambda image: image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)))
    return r"frame01_gt.nii.gz: direction is"


FAULTS = [
    image_missing,
    image_not_gzipped,
    label_missing,
    label_without_image,
    frame_too_many,
    info_missing,
    info_without_es,
    info_with_words,
    info_with_equal_frames,
    image_truncated,
    image_of_text,
    image_with_nan,
    image_constant,
    image_with_time,
    image_dangling,
    label_with_4,
    label_with_fractions,
    label_with_nan,
    label_of_other_size,
    label_of_other_spacing,
    label_of_other_origin,
    label_of_other_direction,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_is_written(fault, convert, database, raw):
    message = fault(database / "training" / "patient099")
    with pytest.raises(UserError, match=message):
        convert("--labeled", "2")
    assert list(raw.iterdir()) == []


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
    assert list(raw.iterdir()) == []
