"""Images that cannot be preprocessed: each is left out and named, and the others are done."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tiny_nnunet
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from unlabeled_world import World, noise

from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE


def one_problem(world: World) -> str:
    ready, problems = world.run()
    assert ready == 2
    assert {"free0.b2nd", "free1.b2nd"} <= set(world.files())
    assert len(problems) == 1
    return problems[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_voxels_that_are_no_numbers(world, value, ending):
    for case in ("free0", "free1") if ending == ".mha" else ():
        image = sitk.ReadImage(str(world.images / f"{case}_0000.nii.gz"))
        (world.images / f"{case}_0000.nii.gz").unlink()
        sitk.WriteImage(image, str(world.images / f"{case}_0000.mha"))
    world.dataset_json["file_ending"] = ending
    array = noise()
    array[2, 3, 4:6] = value
    path = world.put(f"bad_0000{ending}", array)
    assert one_problem(world) == (
        f"{path}: holds 2 voxels that are NaN or infinite; all must be finite. Fix or remove it."
    )


def test_constant_image(world):
    path = world.put("bad_0000.nii.gz", np.full(tiny_nnunet.SHAPE, 7.0))
    assert one_problem(world) == f"{path}: is constant (7): no image. Fix or remove it."


@pytest.mark.parametrize("pixel", [sitk.sitkFloat32, sitk.sitkInt16])
def test_truncated_file(world, pixel):
    path = world.put("bad_0000.nii.gz", noise())
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), pixel), str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path} cannot be read: " in one_problem(world)


def test_file_that_is_no_image(world):
    path = world.images / "bad_0000.nii.gz"
    path.write_text("a picture of a heart")
    assert f"{path} cannot be read: " in one_problem(world)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 60.0), (0.0015, 0.0015, 0.006), (1.5, 13.0, 6.0)])
def test_spacing_that_cannot_be_right(world, spacing):
    path = world.put("bad_0000.nii.gz", noise(), spacing)
    problem = one_problem(world)
    assert str(path) in problem
    assert "mm along axis" in problem
    assert "Fix the header" in problem


def test_wrong_number_of_channel_files(world):
    world.put("bad_0000.nii.gz", noise())
    world.put("bad_0001.nii.gz", noise(1))
    assert one_problem(world) == "bad: has channels 0000, 0001, dataset.json asks for 0000 to 0000."


def test_wrong_number_of_channels_in_a_file(world):
    image = sitk.JoinSeries([sitk.GetImageFromArray(noise(i).astype(np.float32)) for i in range(2)])
    image.SetSpacing((*tiny_nnunet.SPACING, 1.0))
    sitk.WriteImage(image, str(world.images / "bad_0000.nii.gz"))
    assert "bad_0000.nii.gz: holds 2 channel(s), dataset.json asks for 1." in one_problem(world)


def test_misnamed_file(world):
    (world.images / "heart.nii.gz").touch()
    assert one_problem(world) == (
        f"{world.images / 'heart.nii.gz'}: not named CASE_XXXX.nii.gz (XXXX: the channel, 0000 first)."
    )


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (lambda: np.where(np.arange(12800).reshape(8, 40, 40) == 7, 1e300, noise()), "holds values beyond 3.4e+38"),
        (lambda: noise() * 1e30, "cannot be preprocessed: it is constant"),
    ],
)
def test_values_that_float32_cannot_compute_with(world, voxels, message):
    path = world.images / "bad_0000.nii.gz"
    image = sitk.GetImageFromArray(voxels().astype(np.float64))
    image.SetSpacing(tiny_nnunet.SPACING)
    sitk.WriteImage(image, str(path))
    assert message in one_problem(world)


def test_image_that_normalization_makes_constant(world):
    world.plans["configurations"]["2d"]["normalization_schemes"] = ["CTNormalization"]
    path = world.put("bad_0000.nii.gz", noise() + 1e6)
    assert f"{path} cannot be preprocessed: it is constant" in one_problem(world)


@pytest.mark.parametrize("error", [MemoryError("cannot allocate"), ValueError("Foo")])
def test_image_that_nnunet_cannot_preprocess(world, monkeypatch, error):
    world.put("bad_0000.nii.gz", noise())
    run_case = DefaultPreprocessor.run_case_npy
    cases = iter([error, None, None])  # bad, free0, free1

    def stumble(self, *args):
        problem = next(cases)
        if problem is not None:
            raise problem
        return run_case(self, *args)

    monkeypatch.setattr(DefaultPreprocessor, "run_case_npy", stumble)
    assert f"bad_0000.nii.gz cannot be preprocessed: {error}" in one_problem(world)


def become_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def become_a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("become", [become_a_pipe, become_a_loop, Path.mkdir, Path.touch])
def test_what_is_no_file_is_refused_in_time(world, become):
    become(world.images / "bad_0000.nii.gz")
    assert f"{world.images / 'bad_0000.nii.gz'} " in one_problem(world)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x_seg_0000.nii.gz", "CASE_seg for the segmentation"),
        ("x_0000_0000.nii.gz", "_0000 is the number of a channel"),
        ("a\nb_0000.nii.gz", "characters that cannot be printed"),
        (" x_0000.nii.gz", "starts or ends with a blank"),
        ("x_\u0660\u0660\u0660\u0660.nii.gz", "not named CASE_XXXX"),
    ],
)
def test_name_that_cannot_be_a_cases(world, name, message):
    world.put("ok_0000.nii.gz", noise()).rename(world.images / name)
    problem = one_problem(world)
    assert message in problem
    assert problem.isprintable()


def test_case_that_is_labeled_too(world):
    shutil.copy(world.raw / "imagesTr" / "case0_0000.nii.gz", world.images)
    assert re.match(r"case0: is in .*imagesUl and among the labeled cases\..* remove or rename", one_problem(world))


def test_removed_images_are_told(world, caplog):
    world.run()
    (world.images / "free0_0000.nii.gz").unlink()
    world.run()
    assert "1 preprocessed case(s) have no usable image in imagesUl any more and were removed" in caplog.text


def test_image_that_became_unreadable_leaves_no_older_result(world):
    world.run()
    path = world.images / "free0_0000.nii.gz"
    path.write_text("torn")
    os.utime(path, (2**31, 2**31))
    ready, (problem,) = world.run()
    assert (ready, str(path) in problem) == (1, True)
    assert world.files() == ["free1.b2nd", RECIPE_FILE]
