"""Faults of a raw dataset: every function spoils one and returns what the error must say."""

import shutil

import SimpleITK as sitk  # noqa: N813
from fake_bhsd import change_json
from fake_nnunet import volume


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


def raw_channel_numbers_with_a_gap(data):
    for channel in (1, 0):
        path = data / "imagesTr" / f"p01_frame01_{channel:04d}.nii.gz"
        path.rename(path.with_name(f"p01_frame01_{channel + 1:04d}.nii.gz"))
    return (
        r"imagesTr/p01_frame01_0001.nii.gz: the channels must be numbered without a gap \(p01_frame01_0000.nii.gz, "
        r"p01_frame01_0001.nii.gz\), got p01_frame01_0001.nii.gz, p01_frame01_0002.nii.gz. Add or rename files"
    )


def raw_list_of_files_is_no_object(data):
    change_json(data / "dataset.json", lambda content: content.update(dataset=["p01_frame01"]))
    return r"dataset.json lacks 'dataset', got \['p01_frame01'\]. It must be an object, .* Add the entry"


def raw_list_names_images_without_a_list(data):
    files = {"images": "imagesTr/p01_frame01_0000.nii.gz", "label": "labelsTr/p01_frame01.nii.gz"}
    change_json(data / "dataset.json", lambda content: content.update(dataset={"p01_frame01": files}))
    return r'dataset.json: the entry of .p01_frame01. under "dataset" must hold "images" \(a list\) .* Correct it'


def raw_channel_names_are_a_list(data):
    change_json(data / "dataset.json", lambda content: content.update(channel_names=["T1", "T2"]))
    return r"dataset.json lacks 'channel_names', got \['T1', 'T2'\]. It must be an object, .* Add the entry"


def raw_file_ending_that_no_reader_knows(data):
    change_json(data / "dataset.json", lambda content: content.update(file_ending=".jpg"))
    return r"dataset.json: file_ending '.jpg' is known to no reader of nnU-Net. It must be one of .*.png.* Correct it"


def raw_channels_in_one_file(data):
    change_json(data / "dataset.json", lambda content: content.update(channel_names={"0": "T1"}))
    for path in data.glob("images*/*_0001.nii.gz"):
        path.unlink()
    sitk.WriteImage(volume("4D", shape=(2, 3, 6, 8)), str(data / "imagesTr" / "p03_frame01_0000.nii.gz"))
    return (
        r"p03_frame01_0000.nii.gz: must be a 3D image with one value per voxel, has 4 axes, .* Export one volume per "
        r"file, and one file per channel.(.|\n)*--leave-out p03_frame01"
    )


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
    raw_channel_numbers_with_a_gap,
    raw_list_of_files_is_no_object,
    raw_list_names_images_without_a_list,
    raw_channel_names_are_a_list,
    raw_file_ending_that_no_reader_knows,
    raw_channels_in_one_file,
]
