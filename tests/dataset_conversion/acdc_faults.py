"""Faults of ACDC's official folder: every function spoils patient 099 and returns what the error must say."""

import shutil

import numpy as np
import SimpleITK as sitk  # noqa: N813
from fake_acdc import SHAPE, write_volume


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
    return r"patient099_frame01.nii.gz:? cannot be read.* Download or export it again"


def image_of_text(patient):
    (patient / "patient099_frame01.nii.gz").write_text("<html>404</html>")
    return r"patient099_frame01.nii.gz:? cannot be read:? it is cut off"


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
    return r"patient099_frame01.nii.gz cannot be read.* Download or export it again"


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


ACDC_FAULTS = [
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
