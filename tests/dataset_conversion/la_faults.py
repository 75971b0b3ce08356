"""Faults of LA's h5 files: every function spoils a download and returns what the error must say."""

import shutil

import fake_la
import numpy as np

LA_FOLDER = "2018LA_Seg_Training Set"


def la_file_cut_off(data):
    path = data / LA_FOLDER / "06SR" / "mri_norm2.h5"
    path.write_bytes(path.read_bytes()[:1000])
    return r"06SR/mri_norm2.h5:? cannot be read.* again(.|\n)*--leave-out 06SR"


def la_label_missing(data):
    fake_la.write_h5(data / LA_FOLDER, "06SR", label=None)
    return r"06SR/mri_norm2.h5:? cannot be read: .*it has no array 'label', only image. Download"


def la_image_flat(data):
    fake_la.write_h5(data / LA_FOLDER, "0RZD", image=np.zeros((7, 6), np.float32))
    return r"0RZD/mri_norm2.h5:? cannot be read: image must have the axes x y z, has the shape \(7, 6\)"


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
