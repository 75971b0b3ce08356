"""Which cases are shown, and that pictures show what the files hold."""

import base64
import io
import re

import numpy as np
import pytest
import SimpleITK
from invented import BASELINE, OURS, SPACING, heart, write_image
from PIL import Image

from nnunet_semisam.report import example_cases, sprites, volumes


def test_examples_are_worst_median_best_and_largest_loss(benchmark_result):
    examples = [e for e in example_cases.choose_examples(benchmark_result) if e.runs[0]["budget"] == 1]
    ours, base = (next(r for r in examples[0].runs if r["trainer"] == name) for name in (OURS, BASELINE))
    dice = example_cases.case_dice(benchmark_result, ours)
    found = {reason.split(" of ")[0]: e.case for e in examples for reason in e.reasons}
    assert found["worst"] == min(dice, key=dice.get)
    assert found["best"] == max(dice, key=dice.get)
    assert sorted(dice.values())[3] == dice[found["median"]]
    (lost,) = [e.case for e in examples for reason in e.reasons if "loses most" in reason]
    theirs = example_cases.case_dice(benchmark_result, base)
    assert lost == min(dice, key=lambda case: dice[case] - theirs[case])
    assert all((r["fold"], r["seed"]) == (0, 0) for e in examples for r in e.runs)


def test_slices_are_those_of_the_file_and_masks_lie_on_the_image(tmp_path):
    label = heart((7, 40, 44))
    image = label.astype(np.float32) * 100
    write_image(image, tmp_path / "c_0000.nii.gz")
    write_image(label, tmp_path / "truth.nii.gz")
    found = volumes.read_case(tmp_path / "c_0000.nii.gz", {"truth": tmp_path / "truth.nii.gz"})
    assert (found.slices, found.total) == ([1, 2, 3, 4, 5, 6, 7], 7)
    assert found.spacing_mm == SPACING[1:]
    assert found.masks["truth"].sum() == label.sum()  # nothing of the foreground is cut off
    gray = {value: found.image[found.masks["truth"] == value] for value in range(4)}
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


def test_two_dimensional_colour_images_work(tmp_path):
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(tmp_path / "c_0000.png")
    Image.fromarray(np.ones((20, 30), np.uint8)).save(tmp_path / "m.png")
    found = volumes.read_case(tmp_path / "c_0000.png", {"truth": tmp_path / "m.png"})
    assert (found.image.shape, found.masks["truth"].sum(), found.oriented) == ((1, 20, 30), 600, False)


def pixels(uri):
    return Image.open(io.BytesIO(base64.b64decode(re.sub("^data:image/png;base64,", "", uri))))


def test_masks_are_outlined_and_empty_ones_see_through():
    label = np.zeros((2, 9, 9), np.int16)
    label[0, 2:7, 2:7] = 3
    picture = np.asarray(pixels(sprites.mask_sprite(label, (9, 9))).convert("RGBA"))
    assert picture.shape == (18, 9, 4)
    assert tuple(picture[4, 4]) == (*sprites.LABEL_COLORS[2], sprites.FILL)
    assert tuple(picture[2, 2]) == (*sprites.LABEL_COLORS[2], sprites.OUTLINE)
    assert picture[9:, :, 3].max() == picture[0, 0, 3] == 0


def test_thick_pixels_are_stretched_and_slices_made_small():
    assert sprites.target_size((100, 100), (2.0, 1.0)) == (200, 100)
    assert sprites.target_size((1000, 500), (1.0, 1.0)) == (200, 100)
    assert sprites.target_size((20, 30), (1.0, 1.0)) == (20, 30)
    assert pixels(sprites.gray_sprite(np.zeros((3, 20, 30), np.uint8), (10, 15))).size == (15, 30)
