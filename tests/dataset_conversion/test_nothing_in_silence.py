"""A case that collapses with another, is listed twice, or is never used: an error or a counted line."""

import shutil

import fake_acdc
import fake_bhsd
import pytest
import SimpleITK as sitk  # noqa: N813
from fake_bhsd import change_json
from fake_nnunet import volume, write_msd, write_raw
from test_hostile_names import list_cases
from written_files import visible

from nnunet_semisam.errors import UserError


@pytest.fixture
def data(tmp_path):
    return write_raw(tmp_path / "Dataset007_Heart")


@pytest.fixture
def task(tmp_path):
    return write_msd(tmp_path / "Task03_Liver")


@pytest.fixture
def convert(convert_with):
    return lambda source, *options: convert_with("nnunet", "-i", str(source), *(options or ("--labeled", "all")))


def note_of(result, text):
    (note,) = [note for note in result.notes if text in note]
    return note


def one_label_for_two(entries):
    entries["p01_frame01"]["label"] = entries["p02_frame01"]["label"]


def label_is_the_image(entries):
    entries["p01_frame01"]["label"] = entries["p01_frame01"]["images"][0]


def one_image_for_two(entries):
    entries["p01_frame01"]["images"] = entries["p01_frame02"]["images"]


def one_image_for_two_channels(entries):
    entries["p01_frame01"]["images"] = 2 * entries["p01_frame01"]["images"][:1]


def other_ending(entries):
    entries["p01_frame01"]["label"] = "labelsTr/p01.nrrd"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_label_for_two, r"p02_frame01.nii.gz: is the label of p0._frame01 and the label of p0._frame01"),
        (label_is_the_image, r"p01_frame01_0000.nii.gz: is the label of p01_frame01 and the image of p01_frame01"),
        (one_image_for_two, r"p01_frame02_0000.nii.gz: is the image of p01_frame0. and the image of p01_frame0."),
        (one_image_for_two_channels, r"p01_frame01_0000.nii.gz: p01_frame01 lists it for two channels"),
        (other_ending, r"labelsTr/p01.nrrd: must end in .nii.gz"),
    ],
)
def test_list_that_shares_files_is_refused(convert, data, raw, spoil, message):
    sitk.WriteImage(volume("p01", 3), str(data / "labelsTr" / "p01.nrrd"))
    entries = list_cases(data)
    spoil(entries)
    change_json(data / "dataset.json", lambda content: content.update(dataset=entries))
    with pytest.raises(UserError, match=message):
        convert(data)
    assert visible(raw) == []


def test_labels_that_are_links_to_one_file_are_counted(convert, data):
    path = data / "labelsTr" / "p01_frame01.nii.gz"
    path.unlink()
    path.symlink_to("p02_frame01.nii.gz")
    assert note_of(convert(data), "links to the label").startswith("1 labels are links to the label of another case")


def test_unlabeled_case_in_two_folders_is_refused(convert, data, raw):
    for channel in (0, 1):
        sitk.WriteImage(volume(f"other{channel}"), str(data / "imagesTr" / f"u01_frame01_{channel:04d}.nii.gz"))
    with pytest.raises(UserError, match=r"imagesUl/u01_frame01_0000.nii.gz: the same case, without a label, is in im"):
        convert(data)
    assert visible(raw) == []


@pytest.mark.parametrize("image", ["imagesTr/liver_0.nii.gz", "more/liver_0.nii.gz"])
def test_case_that_the_decathlon_lists_twice_is_refused_and_can_be_left_out(convert, task, raw, image):
    shutil.copytree(task / "imagesTr", task / "more")
    entry = {"image": image, "label": "labelsTr/liver_1.nii.gz"}
    change_json(task / "dataset.json", lambda content: content["training"].append(entry))
    with pytest.raises(UserError, match=r'dataset.json: "training" lists liver_0 2 times'):
        convert(task)
    assert visible(raw) == []
    result = convert(task, "--labeled", "all", "--leave-out", "liver_0", "liver_1")
    assert len(result.conversion.cases) == 4


def test_two_numbers_of_one_label_are_refused(convert, task):
    change_json(task / "dataset.json", lambda content: content["labels"].update({"2": "liver"}))
    with pytest.raises(UserError, match="the labels 1 and 2 are both called 'liver'"):
        convert(task)


def test_channels_that_nobody_named_are_not_dropped(convert, task):
    sitk.WriteImage(volume("liver_0", shape=(5, 3, 6, 8)), str(task / "imagesTr" / "liver_0.nii.gz"))
    with pytest.raises(UserError, match=r"liver_0.nii.gz.*names 2 channels, .* size is \(8, 6, 3, 5\)"):
        convert(task)


def test_files_that_nobody_uses_are_counted(convert, data):
    (data / "imagesTr" / "more").mkdir()
    sitk.WriteImage(volume("x"), str(data / "imagesTr" / "x_0000.nii"))
    shutil.copy(data / "imagesUl" / "u01_frame01_0000.nii.gz", data / "imagesUl" / "u02_0000.NII.GZ")
    result = convert(data)
    assert "2 files or folders of imagesTr do not end in .nii.gz and are not used: more, x_0000.nii" in result.notes
    assert "1 files or folders of imagesUl do not end in .nii.gz and are not used: u02_0000.NII.GZ" in result.notes


def test_patients_and_frames_with_other_names_are_counted(convert_with, tmp_path, nnunet_folders):
    database = fake_acdc.write_database(tmp_path)
    patient = database / "training" / "patient099"
    shutil.copytree(patient, database / "training" / "patient7")
    shutil.copy(patient / "patient099_frame01.nii.gz", patient / "patient099_frame1.nii.gz")
    shutil.copy(patient / "patient099_frame01.nii.gz", patient / "patient099_4d.nii.gz")  # of the official download
    result = convert_with("acdc", "-i", str(database), "--labeled", "2")
    assert note_of(result, "ACDC's names") == (
        "2 files or folders of training have none of ACDC's names and are not used: patient7, "
        "patient099/patient099_frame1.nii.gz"
    )


def test_labels_without_image_are_counted(convert_with, tmp_path, nnunet_folders):
    source = fake_bhsd.write_bhsd(tmp_path)
    labels = source / "label_192" / "ground truths"
    shutil.copy(labels / f"{fake_bhsd.TRAIN[0]}.nii.gz", labels / "ID_99ff_ID_00000099.nii.gz")
    result = convert_with("bhsd", "-i", str(source), "--labeled", "2", "--val", "1")
    assert note_of(result, "have no image") == (
        "1 labels of 'ground truths' have no image and are not used: ID_99ff_ID_00000099"
    )


def test_equal_images_with_other_labels_are_counted(convert, data):
    for channel in ("0000", "0001"):
        shutil.copy(
            data / "imagesTr" / f"p02_frame01_{channel}.nii.gz", data / "imagesTr" / f"p02_frame02_{channel}.nii.gz"
        )
    note = note_of(convert(data), "have other labels")
    assert note.startswith("1 cases show the same voxels as another and have other labels")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "a": 1, "b": 1, "c": 2}, "the labels a and b are both 1"),
        ({"background": 0, "a": 1, "c": 3}, "no label has the value 2"),
        ({"background": 0, "a": True}, "labels must be like"),
        ({"background": 0, "a": 1.0}, "labels must be like"),
        ({"background": 0, "a": -1}, "labels must be like"),
        ({"background": 0, "a": 10**30}, "labels must be like"),
        ({"background": 0, "a": []}, "labels must be like"),
        ({"background": 0, "a": [1, [2]]}, "labels must be like"),
        ({"background": 0, "whole": [1, 2], "core": 2, "more": 1}, "regions_class_order, a list of 3 labels"),
    ],
)
def test_labels_that_nnunet_does_not_train_on_are_refused(convert, data, labels, message):
    change_json(data / "dataset.json", lambda content: content.update(labels=labels))
    with pytest.raises(UserError, match=f"dataset.json: .*{message}"):
        convert(data)
