"""Faults of a BHSD download: every function spoils one and returns what the error must say."""

import gzip
import shutil

import fake_bhsd
import numpy as np
from fake_bhsd import TEST, TRAIN, change_json


def bhsd_without_ground_truths(data):
    shutil.rmtree(data / "label_192" / "ground truths")
    return r"BHSD must hold label_192/images and 'label_192/ground truths'. Get label_192.zip from https"


def bhsd_still_packed(data):
    shutil.rmtree(data / "label_192")
    (data / "label_192.zip").write_bytes(b"zip")
    return r"Unpack .*BHSD/label_192.zip there"


def bhsd_without_dataset_json(data):
    (data / "dataset.json").unlink()
    return r"BHSD/dataset.json is missing. .* get it from https"


def bhsd_dataset_json_is_a_web_page(data):
    (data / "dataset.json").write_text("<!doctype html>")
    return r"BHSD/dataset.json cannot be read as json .* It must hold \"labels\" .* Get it again from https"


def bhsd_dataset_json_without_test_list(data):
    change_json(data / "dataset.json", lambda content: content.pop("test"))
    return r"BHSD/dataset.json must hold .* got KeyError: 'test'. Get it again"


def bhsd_dataset_json_of_another_labelling(data):
    change_json(data / "dataset.json", lambda content: content["labels"].pop("0"))
    return r"BHSD/dataset.json: labels must count from 0, the background, upwards; got .* Get it again"


def bhsd_case_in_both_lists(data):
    change_json(data / "dataset.json", lambda content: content["test"].append(f"./imagesTs/{TRAIN[0]}.nii.gz"))
    return rf"BHSD/dataset.json lists {TRAIN[0]} more than once. Get it again"


def bhsd_image_cut_off(data):
    path = data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    return rf"images/{TRAIN[0]}.nii.gz:? cannot be read.* again(.|\n)*--leave-out {TRAIN[0]}"


def bhsd_image_is_a_web_page(data):
    (data / "unlabel_1980" / f"{fake_bhsd.UNLABELED[0]}.nii.gz").write_text("<html>not found</html>")
    return rf"{fake_bhsd.UNLABELED[0]}.nii.gz:? cannot be read.*. Download or export it again"


def bhsd_image_with_nan(data):
    array = fake_bhsd.image_of(TRAIN[0]).astype(np.float32)
    array[1, 1, 1] = np.nan
    fake_bhsd.write(data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz", array)
    return rf"images/{TRAIN[0]}.nii.gz: 1 of 320 voxels are NaN or infinite. Replace them"


def bhsd_image_with_nan_and_no_ending(data):
    bhsd_image_with_nan(data)
    path = data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz"
    path.rename(path.with_name(TRAIN[0]))
    return rf"images/{TRAIN[0]}:? cannot be read: it holds voxels that are NaN, infinite, or too large for float32"


def bhsd_image_without_voxel_size(data):
    path = data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[312:328] = bytes(16)  # srow_z, the last row of the affine
    path.write_bytes(gzip.compress(bytes(content)))
    return rf"images/{TRAIN[0]}.nii.gz:? cannot be read: its header has no voxel size, the affine's is \(0.5, 0.5, 0\)"


def bhsd_image_with_time(data):
    array = np.stack([fake_bhsd.image_of(TRAIN[0])] * 2, axis=-1)
    fake_bhsd.write(data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz", array)
    return rf"images/{TRAIN[0]}.nii.gz: must be a 3D image .* Export one volume per file"


def bhsd_label_of_a_sixth_class(data):
    fake_bhsd.write(data / "label_192" / "ground truths" / f"{TRAIN[0]}.nii.gz", np.full((10, 8, 4), 6, np.uint8))
    return rf"ground truths/{TRAIN[0]}.nii.gz: has label values 6; allowed are 0, 1, 2, 3, 4, 5. Correct"


def bhsd_label_empty(data):
    fake_bhsd.write(data / "label_192" / "ground truths" / f"{TEST[0]}.nii.gz", np.zeros((10, 8, 4), np.uint8))
    return rf"labelsTs/{TEST[0]}.nii.gz: the label is empty, .* Download label_192 again, or .*--leave-out {TEST[0]}"


def bhsd_label_of_other_size(data):
    fake_bhsd.write(data / "label_192" / "ground truths" / f"{TRAIN[0]}.nii.gz", np.ones((10, 8, 5), np.uint8))
    return rf"ground truths/{TRAIN[0]}.nii.gz: size is \(10, 8, 5\), must be \(10, 8, 4\)"


def bhsd_label_missing(data):
    (data / "label_192" / "ground truths" / f"{TRAIN[0]}.nii.gz").unlink()
    return rf"images/{TRAIN[0]}.nii.gz: has no label in 'ground truths'. Add it, or --leave-out {TRAIN[0]}"


def bhsd_case_twice(data):
    path = data / "label_192" / "images" / f"{TRAIN[0]}.nii.gz"
    shutil.copy(path, path.with_name(TRAIN[0]))
    return rf"images/{TRAIN[0]}.nii.gz: is the same case as .*images/{TRAIN[0]}. Remove one of the two"


def bhsd_test_image_among_the_unlabeled(data):
    target = data / "unlabel_1980" / "ID_77aa_ID_00000077.nii.gz"
    shutil.copy(data / "label_192" / "images" / f"{TEST[0]}.nii.gz", target)
    return r"ID_77aa_ID_00000077.nii.gz: shows the same voxels as .* Remove one of the two, or --leave-out ID_77aa"


BHSD_FAULTS = [
    bhsd_without_ground_truths,
    bhsd_still_packed,
    bhsd_without_dataset_json,
    bhsd_dataset_json_is_a_web_page,
    bhsd_dataset_json_without_test_list,
    bhsd_dataset_json_of_another_labelling,
    bhsd_case_in_both_lists,
    bhsd_image_cut_off,
    bhsd_image_is_a_web_page,
    bhsd_image_with_nan,
    bhsd_image_with_nan_and_no_ending,
    bhsd_image_without_voxel_size,
    bhsd_image_with_time,
    bhsd_label_of_a_sixth_class,
    bhsd_label_empty,
    bhsd_label_of_other_size,
    bhsd_label_missing,
    bhsd_case_twice,
    bhsd_test_image_among_the_unlabeled,
]
