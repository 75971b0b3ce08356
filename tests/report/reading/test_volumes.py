"""Cases are turned, cut and counted as their files say."""

import numpy as np
import pytest
import SimpleITK
from invented import SPACING, heart, write_image
from PIL import Image

from nnunet_semisam.report.reading import volumes
from nnunet_semisam.report.reading.volumes import GROUND_TRUTH


def test_slices_are_those_of_the_file_and_masks_lie_on_the_image(tmp_path):
    label = heart((7, 40, 44))
    image = label.astype(np.float32) * 100
    write_image(image, tmp_path / "c_0000.nii.gz")
    write_image(label, tmp_path / "label.nii.gz")
    found = volumes.read_case(tmp_path / "c_0000.nii.gz", {GROUND_TRUTH: tmp_path / "label.nii.gz"})
    assert (found.slices, found.total) == ([1, 2, 3, 4, 5, 6, 7], 7)
    assert found.spacing_mm == SPACING[1:]
    assert found.masks[GROUND_TRUTH].sum() == label.sum()  # nothing of the foreground is cut off
    gray = {value: found.image[found.masks[GROUND_TRUTH] == value] for value in range(4)}
    assert [np.ptp(values) for values in gray.values()] == [0, 0, 0, 0]
    assert [values[0] for values in gray.values()] == sorted({values[0] for values in gray.values()})


def test_many_slices_are_thinned_with_first_and_last():
    chosen = volumes.choose_slices(slice(10, 110), 24)
    assert (len(chosen), chosen[0], chosen[-1]) == (24, 10, 109)
    assert volumes.choose_slices(slice(3, 6), 24) == [3, 4, 5]


@pytest.mark.parametrize(("spacing", "axis"), [((10, 1, 1), 0), ((1, 1, 1), 0), ((0.9, 1, 5), 2), ((1, 1.2, 1), 0)])
def test_paging_follows_the_thick_axis(spacing, axis):
    assert volumes.slice_axis(spacing) == axis


def test_missing_and_misfit_predictions_are_no_picture(tmp_path):
    write_image(np.zeros((4, 20, 20), np.float32), tmp_path / "c_0000.nii.gz")
    write_image(np.zeros((4, 20, 21), np.uint8), tmp_path / "p.nii.gz")
    (tmp_path / "torn.nii.gz").write_bytes(b"no image")
    paths = {"p": tmp_path / "p.nii.gz", "gone": tmp_path / "gone.nii.gz", "torn": tmp_path / "torn.nii.gz"}
    assert volumes.read_case(tmp_path / "c_0000.nii.gz", paths).masks == dict.fromkeys(paths)


def test_patient_right_is_at_the_left_whatever_the_header_says(tmp_path):
    array = np.zeros((3, 10, 12), np.float32)
    array[:, :, :4] = 100  # the first columns
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1, 1, 5))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))  # columns run from left to right: the first are patient left
    SimpleITK.WriteImage(image, str(tmp_path / "c_0000.nrrd"))
    found = volumes.read_case(tmp_path / "c_0000.nrrd", {})
    assert found.oriented
    assert found.image[1, 5].tolist() == [0] * 8 + [255] * 4


@pytest.mark.parametrize(
    ("direction", "axis", "shown", "total"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), 3, 3, 10),
        ((1, 0, 0, 0, 1, 0, 0, 0, -1), 3, 3, 10),  # the file runs downwards
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), 3, 3, 10),
        ((0, 0, 1, 1, 0, 0, 0, 1, 0), 2, 22, 64),  # z of the file runs from right to left, so axial is its second axis
    ],
)
def test_numbers_of_slices_are_those_of_the_file(tmp_path, direction, axis, shown, total):
    label = np.zeros((10, 64, 60), np.uint8)
    label[2, 21, 20:40] = 1
    thick = (1.0, 1.0, 5.0) if axis == 3 else (1.0, 1.0, 1.0)
    for name in ("c_0000.nii.gz", "label.nii.gz"):
        image = SimpleITK.GetImageFromArray(label)
        image.SetSpacing(thick)
        image.SetDirection(direction)
        SimpleITK.WriteImage(image, str(tmp_path / name))
    found = volumes.read_case(tmp_path / "c_0000.nii.gz", {GROUND_TRUTH: tmp_path / "label.nii.gz"})
    slices = [number for number, mask in zip(found.slices, found.masks[GROUND_TRUTH], strict=True) if mask.any()]
    assert (found.axis, slices, found.total) == (axis, [shown], total)


def test_two_dimensional_colour_images_work(tmp_path):
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(tmp_path / "c_0000.png")
    Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / "m.png")
    found = volumes.read_case(tmp_path / "c_0000.png", {GROUND_TRUTH: tmp_path / "m.png"})
    assert (found.image.shape, found.masks[GROUND_TRUTH].sum(), found.oriented) == ((1, 20, 30), 600, False)
