"""Every fault of BHSD, LA and raw datasets: an error that names the file and the remedy, and nothing left behind.

The faults of BHSD are in ``bhsd_faults.py``, those of ACDC in ``test_malformed_acdc.py``.
"""

import shutil

import fake_bhsd
import fake_la
import fake_nnunet
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from bhsd_faults import BHSD_FAULTS
from fake_bhsd import change_json

from nnunet_semisam.errors import UserError

LA_FOLDER = "2018LA_Seg_Training Set"


# ---- LA


def la_file_cut_off(data):
    path = data / LA_FOLDER / "06SR" / "mri_norm2.h5"
    path.write_bytes(path.read_bytes()[:1000])
    return r"06SR/mri_norm2.h5: cannot be read .* again(.|\n)*--leave-out 06SR"


def la_label_missing(data):
    fake_la.write_h5(data / LA_FOLDER, "06SR", label=None)
    return r"06SR/mri_norm2.h5: cannot be read \(.*it has no array 'label', only image\). Download"


def la_image_flat(data):
    fake_la.write_h5(data / LA_FOLDER, "0RZD", image=np.zeros((7, 6), np.float32))
    return r"0RZD/mri_norm2.h5: cannot be read \(image must have the axes x y z, has 2 axes"


def la_label_of_two_classes(data):
    fake_la.write_h5(data / LA_FOLDER, "06SR", label=np.full(fake_la.SHAPE_XYZ, 2, np.uint8))
    return r"06SR/mri_norm2.h5: has label values 2; allowed are 0, 1. Correct the segmentation"


def la_label_of_other_size(data):
    fake_la.write_h5(data / LA_FOLDER, "06SR", label=np.ones((7, 6, 4), np.uint8))
    return r"06SR/mri_norm2.h5: size is \(7, 6, 4\), must be \(7, 6, 5\)"


def la_image_with_infinity(data):
    image = np.ones(fake_la.SHAPE_XYZ, np.float32)
    image[0, 0, 0] = np.inf
    fake_la.write_h5(data / LA_FOLDER, "1GU1", image=image)
    return r"1GU1/mri_norm2.h5: 1 of 210 voxels are NaN or infinite"


def la_train_list_empty(data):
    (data / "train.list").write_text("\n\n")
    return r"train.list lists no case. Write one case identifier per line"


def la_case_listed_twice(data):
    (data / "train.list").write_text("06SR\n0RZD\n06SR\n")
    return r"train.list lists 06SR more than once. Name each case once"


def la_case_in_both_lists(data):
    (data / "test.list").write_text("UPT6\n06SR\n")
    return r"test.list and .*train.list both list 06SR. Remove them from one"


def la_labeled_case_missing(data):
    shutil.rmtree(data / LA_FOLDER / "0RZD")
    return r"--labeled 2 needs 0RZD, which the data folder lacks. Add the files"


# ---- nnU-Net's raw format


def raw_dataset_json_missing(data):
    (data / "dataset.json").unlink()
    return r"Dataset007_Heart must be a dataset: a folder with dataset.json, .* Give its path"


def raw_dataset_json_cut_off(data):
    (data / "dataset.json").write_text('{"labels": ')
    return r"Dataset007_Heart/dataset.json cannot be read as json .* Correct it"


def raw_dataset_json_is_a_list(data):
    (data / "dataset.json").write_text("[1]")
    return r"Dataset007_Heart/dataset.json must hold an object, got list"


def raw_file_ending_missing(data):
    change_json(data / "dataset.json", lambda content: content.pop("file_ending"))
    return r"dataset.json lacks 'file_ending', got None. .* Add the entry"


def raw_file_ending_of_other_files(data):
    change_json(data / "dataset.json", lambda content: content.update(file_ending=".nrrd"))
    return r"Dataset007_Heart has no training case with a label that ends in .nrrd, .* Correct it"


def raw_labels_without_background(data):
    change_json(data / "dataset.json", lambda content: content.update(labels={"heart": 1}))
    return r"dataset.json: labels must be like \{\"background\": 0, .* Correct it"


def raw_channel_missing(data):
    (data / "imagesTr" / "p01_frame01_0001.nii.gz").unlink()
    return r"p01_frame01_0000.nii.gz: the case has 1 of 2 channels .* Add the missing files"


def raw_image_without_channel_number(data):
    (data / "imagesTr" / "p01_frame01_0000.nii.gz").rename(data / "imagesTr" / "p01.nii.gz")
    return r"imagesTr/p01.nii.gz: the name must end in _0000.nii.gz. Rename it"


def raw_label_without_image(data):
    path = data / "labelsTr" / "p01_frame01.nii.gz"
    path.rename(path.with_name("p01_frame1.nii.gz"))
    return r"labelsTr/p01_frame1.nii.gz: has no image p01_frame1_0000.nii.gz in imagesTr. Rename or remove it"


def raw_label_of_other_spacing(data):
    path = data / "labelsTr" / "p03_frame01.nii.gz"
    label = sitk.ReadImage(str(path))
    label.SetSpacing((1.0, 2.0, 2.5))
    sitk.WriteImage(label, str(path))
    return r"p03_frame01.nii.gz: spacing is \(1, 2, 2.5\), must be \(1, 2, 3\)(.|\n)*--leave-out p03_frame01"


def raw_image_of_training_and_validation(data):
    for channel in (0, 1):
        shutil.copy(
            data / "imagesTr" / f"p03_frame01_{channel:04d}.nii.gz",
            data / "imagesTr" / f"p01_frame02_{channel:04d}.nii.gz",
        )
    return r"p0._frame0._0000.nii.gz: shows the same voxels as .* Remove one of the two, or --leave-out p0"


LA_FAULTS = [
    la_file_cut_off,
    la_label_missing,
    la_image_flat,
    la_label_of_two_classes,
    la_label_of_other_size,
    la_image_with_infinity,
    la_train_list_empty,
    la_case_listed_twice,
    la_case_in_both_lists,
    la_labeled_case_missing,
]
RAW_FAULTS = [
    raw_dataset_json_missing,
    raw_dataset_json_cut_off,
    raw_dataset_json_is_a_list,
    raw_file_ending_missing,
    raw_file_ending_of_other_files,
    raw_labels_without_background,
    raw_channel_missing,
    raw_image_without_channel_number,
    raw_label_without_image,
    raw_label_of_other_spacing,
    raw_image_of_training_and_validation,
]
OPTIONS = {
    "bhsd": ("--labeled", "2", "--val", "1"),
    "la": ("--labeled", "2", "--val", "1"),
    "nnunet": ("--labeled", "p03", "--val", "p01"),
}


@pytest.fixture
def source(request, tmp_path):
    write = {
        "bhsd": fake_bhsd.write_bhsd,
        "la": fake_la.write_ua_mt,
        "nnunet": lambda path: fake_nnunet.write_raw(path / "Dataset007_Heart"),
    }
    if request.param == "la":
        pytest.importorskip("h5py")
    return write[request.param](tmp_path)


@pytest.mark.parametrize(
    ("source", "name", "fault"),
    [
        (name, name, fault)
        for name, faults in (("bhsd", BHSD_FAULTS), ("la", LA_FAULTS), ("nnunet", RAW_FAULTS))
        for fault in faults
    ],
    indirect=["source"],
)
def test_fault_is_named_and_nothing_is_written(source, name, fault, convert_with, raw):
    message = fault(source)
    with pytest.raises(UserError, match=message):
        convert_with(name, "-i", str(source), *OPTIONS[name])
    assert list(raw.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "name", "options", "message"),
    [
        ("la", "la", ("--labeled", "6", "--val", "1"), r"--labeled 6: a number must be between 1 and 5"),
        ("la", "la", ("--labeled", "1", "--val", "6"), r"--val 6: must be between 0 and 5, .* there are 6"),
        ("la", "la", ("--labeled", "1", "--val", "nobody"), r"--val nobody: not among the 6 that can be chosen"),
        ("la", "la", ("--labeled", "06SR", "--val", "06SR"), r"--labeled 06SR: not among the 5"),
        ("la", "la", ("--labeled", "1", "--val", "1GU1", "1GU1"), r"--val names something twice"),
        ("la", "la", ("--labeled", "1", "--leave-out", "nobody"), r"--leave-out nobody: no such case in .* Correct"),
        ("nnunet", "nnunet", ("--labeled", "1", "--group", "("), r"--group '\(' is no regular expression"),
        (
            "nnunet",
            "nnunet",
            ("--labeled", "1", "--group", "^q"),
            r"--group '\^q' finds no group in the case 'p01_frame01'",
        ),
        ("nnunet", "nnunet", ("--labeled", "1", "--name", "a b"), r"'a b' must hold letters, digits"),
        ("nnunet", "nnunet", ("--labeled", "1", "--order", "/no/file"), r"--order /no/file cannot be read"),
    ],
    indirect=["source"],
)
def test_impossible_option_is_refused(source, name, options, message, convert_with, raw):
    with pytest.raises(UserError, match=message):
        convert_with(name, "-i", str(source), *options)
    assert list(raw.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"), [("p09", "names groups without labels: p09"), ("p01\np01", "names something twice")]
)
def test_faulty_order_is_refused(line, message, tmp_path, convert_with, raw):
    source = fake_nnunet.write_raw(tmp_path / "Dataset007_Heart")
    (tmp_path / "order.txt").write_text(line)
    with pytest.raises(UserError, match=rf"order.txt {message}"):
        convert_with("nnunet", "-i", str(source), "--labeled", "1", "--order", str(tmp_path / "order.txt"))
    assert list(raw.iterdir()) == []


def test_missing_label_of_the_decathlon_is_a_fault(tmp_path, convert_with, raw):
    source = fake_nnunet.write_msd(tmp_path / "Task03_Liver")
    (source / "labelsTr" / "liver_2.nii.gz").unlink()
    with pytest.raises(UserError, match=r"labelsTr/liver_2.nii.gz: is missing; liver_2 needs it. Add it"):
        convert_with("nnunet", "-i", str(source), "--labeled", "1")
    assert list(raw.iterdir()) == []
