"""Which cases are shown, and that pictures show what the files hold."""

import base64
import io
import re

import numpy as np
import pytest
import SimpleITK
from invented import BASELINE, OURS, SPACING, heart, write_image
from PIL import Image

from nnunet_semisam.report.drawing import sprites
from nnunet_semisam.report.reading import example_cases, volumes


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
    for name in ("c_0000.nii.gz", "truth.nii.gz"):
        image = SimpleITK.GetImageFromArray(label)
        image.SetSpacing(thick)
        image.SetDirection(direction)
        SimpleITK.WriteImage(image, str(tmp_path / name))
    found = volumes.read_case(tmp_path / "c_0000.nii.gz", {"truth": tmp_path / "truth.nii.gz"})
    slices = [number for number, mask in zip(found.slices, found.masks["truth"], strict=True) if mask.any()]
    assert (found.axis, slices, found.total) == (axis, [shown], total)


def test_the_page_says_along_which_axis_of_the_file_slices_are_counted(page):
    assert "5 of 5 slices along the file&#x27;s third axis" in page


def test_a_name_with_brackets_is_found(benchmark_result, folder, tmp_path):
    from dataclasses import replace

    from nnunet_semisam.report.drawing.viewers import viewer

    example = example_cases.choose_examples(benchmark_result)[0]
    images = tmp_path / "held_out/test/images"
    write_image(heart((5, 40, 44)).astype(np.float32), images / "q[1]_0000.nii.gz")
    moved = replace(benchmark_result, folder=tmp_path)
    moved.__dict__["scores"] = {run["run"]: {} for run in example.runs}
    assert "has moved" not in viewer(moved, replace(example, case="q[1]"), "v", 10**6)


def test_what_is_ignored_is_no_label_of_the_legend(benchmark_result, tmp_path):
    import json
    from dataclasses import replace

    from nnunet_semisam.report.reading.dataset_labels import dataset_labels

    (tmp_path / benchmark_result.runs[0]["predictions"]).mkdir(parents=True)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    path = tmp_path / benchmark_result.runs[0]["predictions"] / "dataset.json"
    path.write_text(json.dumps({"labels": labels}))
    assert dataset_labels(replace(benchmark_result, folder=tmp_path)) == {"whole": [1, 2], "core": [2]}


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
