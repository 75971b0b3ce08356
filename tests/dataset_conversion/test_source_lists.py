"""What a source lists and what lies there: nothing is dropped silently, and --leave-out helps where it is named."""

import json

import pytest
import SimpleITK as sitk  # noqa: N813
from fake_bhsd import change_json
from fake_nnunet import PATIENTS, cases, volume, write_msd, write_raw
from written_files import cases as names
from written_files import visible

from nnunet_semisam.errors import UserError


@pytest.fixture
def convert(convert_with):
    return lambda source, *options: convert_with("nnunet", "-i", str(source), "--labeled", "2", *options)


@pytest.fixture
def data(tmp_path):
    return write_raw(tmp_path / "Dataset007_Heart")


@pytest.fixture
def task(tmp_path):
    return write_msd(tmp_path / "Task03_Liver")


def everything(result):
    return {name for part in ("imagesTr", "imagesUl", "imagesTs") for name in names(result.folder / part)}


def test_unlabeled_images_of_a_decathlon_task_come_along(convert, task):
    (task / "imagesUl").mkdir()
    sitk.WriteImage(volume("more", shape=(2, 3, 6, 8)), str(task / "imagesUl" / "liver_7.nii.gz"))
    (task / "imagesUl" / "._liver_7.nii.gz").write_bytes(b"junk of a Mac")
    result = convert(task)
    files = [path.name for path in (result.folder / "imagesUl").glob("liver_7*")]
    assert sorted(files) == ["liver_7_0000.nii.gz", "liver_7_0001.nii.gz"]


def test_images_that_a_decathlon_task_does_not_list_are_reported(convert, task):
    change_json(task / "dataset.json", lambda content: content["training"].pop())
    sitk.WriteImage(volume("more", shape=(2, 3, 6, 8)), str(task / "imagesTs" / "liver_8.nii.gz"))
    notes = convert(task).notes
    assert "1 images of imagesTr are not listed in dataset.json and left out: liver_4.nii.gz" in notes
    assert "1 images of imagesTs are not listed in dataset.json and left out: liver_8.nii.gz" in notes


def test_images_that_the_list_of_dataset_json_does_not_name_are_reported(convert, data):
    files = {
        case: {
            "images": [f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz"],
            "label": f"labelsTr/{case}.nii.gz",
        }
        for case in cases(*PATIENTS[:4])
    }
    change_json(data / "dataset.json", lambda content: content.update(dataset=files))
    (note,) = [note for note in convert(data).notes if "not listed" in note]
    assert note.startswith("4 images of imagesTr are not listed in dataset.json and left out: p05_frame01_0000.nii.gz,")


def test_entries_of_the_decathlon_in_nnunets_dataset_json_do_not_make_it_a_task(convert, data):
    change_json(data / "dataset.json", lambda content: content.update(modality={"0": "MR"}, tensorImageSize="3D"))
    result = convert(data)
    assert names(result.folder / "imagesTr")
    written = json.loads((result.folder / "dataset.json").read_text())
    assert written["channel_names"] == {"0": "T1", "1": "T2"}
    assert "modality" not in written


def test_hidden_files_are_no_cases(convert, data):
    for name in ("imagesTr/._x_0000.nii.gz", "imagesUl/._y_0000.nii.gz", "labelsTr/._x.nii.gz"):
        (data / name).write_bytes(b"junk of a Mac")
    assert everything(convert(data)) == {*cases(*PATIENTS), "t01_frame01", "u01_frame01"}


def channel_missing(data):
    (data / "imagesTr" / "p01_frame01_0001.nii.gz").unlink()
    return "p01_frame01"


def gap_in_the_channels(data):
    (data / "imagesUl" / "u01_frame01_0000.nii.gz").rename(data / "imagesUl" / "u01_frame01_0002.nii.gz")
    return "u01_frame01"


def image_without_number(data):
    (data / "imagesUl" / "u02.nii.gz").write_bytes(b"")
    return "u02"


def label_without_image(data):
    (data / "labelsTr" / "p09_frame01.nii.gz").write_bytes(b"")
    return "p09_frame01"


def listed_label_missing(data):
    files = {
        case: {
            "images": [f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz"],
            "label": f"labelsTr/{case}.nii.gz",
        }
        for case in cases(*PATIENTS)
    }
    change_json(data / "dataset.json", lambda content: content.update(dataset=files))
    (data / "labelsTr" / "p02_frame01.nii.gz").unlink()
    return "p02_frame01"


@pytest.mark.parametrize(
    "spoil", [channel_missing, gap_in_the_channels, image_without_number, label_without_image, listed_label_missing]
)
def test_what_the_error_recommends_to_leave_out_can_be_left_out(convert, data, raw, spoil):
    case = spoil(data)
    with pytest.raises(UserError, match=rf"--leave-out {case}\n"):
        convert(data)
    assert visible(raw) == []
    result = convert(data, "--leave-out", case)
    assert everything(result) == {*cases(*PATIENTS), "t01_frame01", "u01_frame01"} - {case}
    assert f"left out as asked: {case}" in result.notes


def test_leaving_out_every_labeled_case_is_refused(convert, data):
    with pytest.raises(UserError, match=r"--leave-out leaves no case of .* with a label"):
        convert(data, "--leave-out", *cases(*PATIENTS))


def test_case_without_label_that_is_left_out_is_not_counted_as_unlabeled(convert, data):
    for case in cases("p03"):
        (data / "labelsTr" / f"{case}.nii.gz").unlink()
    notes = convert(data, "--leave-out", "p03_frame01").notes
    assert "1 cases of imagesTr have no label and go to imagesUl: p03_frame02" in notes
