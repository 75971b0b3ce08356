import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tiny_nnunet
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_semisam.data import case_workers
from nnunet_semisam.data import preprocess_unlabeled as module
from nnunet_semisam.data.geometry import read_geometry
from nnunet_semisam.data.image_checks import check_image, check_preprocessed
from nnunet_semisam.data.preprocess_case import preprocess_case
from nnunet_semisam.data.preprocess_unlabeled import preprocess_configuration
from nnunet_semisam.data.preprocessed_folder import IMAGES_SUFFIX
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE
from nnunet_semisam.data.unlabeled_images import find_images
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import temporary_beside


class World:
    """The tiny dataset: its unlabeled images, and one call that preprocesses them."""

    def __init__(self, root: Path) -> None:
        self.raw = root / "raw" / tiny_nnunet.DATASET
        self.preprocessed = root / "preprocessed" / tiny_nnunet.DATASET
        self.images = self.raw / "imagesUl"
        self.plans = json.loads((self.preprocessed / f"{tiny_nnunet.PLANS}.json").read_text())
        self.dataset_json = json.loads((self.preprocessed / "dataset.json").read_text())

    def folder(self, configuration: str = "2d") -> Path:
        return self.preprocessed / f"{tiny_nnunet.PLANS}_{configuration}_unlabeled"

    def files(self) -> list[str]:
        """All files, with their records of images where there is an image."""
        names = sorted(file.name for file in self.folder().iterdir())
        cases = [name.removesuffix(".b2nd") for name in names if name.endswith(".b2nd")]
        records = {f"{case}{IMAGES_SUFFIX}" for case in cases}
        assert records == {name for name in names if name.endswith(IMAGES_SUFFIX)}
        return [name for name in names if name not in records]

    def run(self, configuration: str = "2d", num_processes: int = 1) -> tuple[int, list[str]]:
        return preprocess_configuration(
            self.raw, self.preprocessed, self.plans, self.dataset_json, configuration, num_processes
        )

    def put(self, name: str, array: np.ndarray, spacing=tiny_nnunet.SPACING) -> Path:
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(self.images / name))
        return self.images / name


@pytest.fixture
def world(tiny_dataset) -> World:
    made = World(tiny_dataset)
    shutil.rmtree(made.folder())
    return made


def forked(method: str) -> multiprocessing.context.BaseContext:
    """In place of the spawned processes, which would not know what a test replaced."""
    return multiprocessing.get_context("fork")


def noise(seed: int = 0, shape: tuple[int, ...] = tiny_nnunet.SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_result_is_nnunets_own_bit_for_bit(world, configuration):
    """A labeled image, put among the unlabeled ones, comes out as nnU-Net's preprocessing wrote it."""
    shutil.copy(world.raw / "imagesTr" / "case0_0000.nii.gz", world.images / "twin_0000.nii.gz")
    assert world.run(configuration) == (3, [])
    ours = blosc2.open(str(world.folder(configuration) / "twin.b2nd"), mode="r")
    stock = world.preprocessed / f"{tiny_nnunet.PLANS}_{configuration}" / "case0.b2nd"
    theirs = blosc2.open(str(stock), mode="r")
    assert np.array_equal(ours[:], theirs[:])
    assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
    assert (ours.chunks, ours.blocks) == (theirs.chunks, theirs.blocks)


def test_only_images_are_written(world):
    world.run()
    assert world.files() == ["free0.b2nd", "free1.b2nd", RECIPE_FILE]


def voxels(folder: Path) -> dict[str, np.ndarray]:
    """Return what the files hold; their bytes vary: blosc2's threads write blocks in the order they finish in."""
    return {file.name: np.array(blosc2.open(str(file))[:]) for file in folder.glob("*.b2nd")}


def test_two_processes_do_the_same_as_one(world):
    world.run()
    alone = voxels(world.folder())
    shutil.rmtree(world.folder())
    world.put("broken_0000.nii.gz", np.zeros(tiny_nnunet.SHAPE))
    ready, problems = world.run(num_processes=2)
    assert (ready, len(problems)) == (2, 1)
    together = voxels(world.folder())
    assert alone.keys() == together.keys()
    assert all(np.array_equal(alone[name], together[name]) for name in alone)


def test_images_that_changed_places_are_done_again_though_their_times_did_not_change(world):
    world.run()
    before = voxels(world.folder())
    first, second, other = (world.images / f"{name}_0000.nii.gz" for name in ("free0", "free1", "other"))
    for source, target in ((first, other), (second, first), (other, second)):
        source.rename(target)
    assert world.run() == (2, [])
    after = voxels(world.folder())
    assert np.array_equal(after["free0.b2nd"], before["free1.b2nd"])
    assert np.array_equal(after["free1.b2nd"], before["free0.b2nd"])


def test_finished_cases_are_kept_and_new_ones_added(world):
    world.run()
    stamp = (world.folder() / "free0.b2nd").stat().st_mtime_ns
    world.put("late_0000.nii.gz", noise())
    assert world.run() == (3, [])
    assert (world.folder() / "free0.b2nd").stat().st_mtime_ns == stamp


def test_changed_image_is_done_again(world):
    world.run()
    before = (world.folder() / "free0.b2nd").read_bytes()
    path = world.put("free0_0000.nii.gz", noise(7))
    later = (world.folder() / "free0.b2nd").stat().st_mtime + 5
    os.utime(path, (later, later))
    world.run()
    assert (world.folder() / "free0.b2nd").read_bytes() != before


def test_removed_image_is_removed_here_too(world):
    world.run()
    (world.images / "free0_0000.nii.gz").unlink()
    assert world.run() == (1, [])
    assert world.files() == ["free1.b2nd", RECIPE_FILE]


@pytest.mark.parametrize(
    ("key", "value"),
    [("spacing", [3.0, 3.0]), ("normalization_schemes", ["NoNormalization"])],
)
def test_changed_plans_make_everything_again(world, key, value):
    world.run()
    before = {file.name: blosc2.open(str(file), mode="r")[:] for file in world.folder().glob("*.b2nd")}
    world.plans["configurations"]["2d"][key] = value
    assert world.run() == (2, [])
    for name, old in before.items():
        assert not np.array_equal(blosc2.open(str(world.folder() / name), mode="r")[:], old)


def test_plans_that_change_only_the_network_keep_what_is_done(world):
    world.run()
    stamp = (world.folder() / "free0.b2nd").stat().st_mtime_ns
    world.plans["configurations"]["2d"]["batch_size"] = 7
    world.run()
    assert (world.folder() / "free0.b2nd").stat().st_mtime_ns == stamp


def test_what_others_keep_in_the_folder_is_never_deleted(world):
    """It may be a link to a disk of the user's own; the recipe of what is there may be lost."""
    world.run()
    (world.folder() / "thesis.txt").write_text("mine")
    (world.folder() / RECIPE_FILE).unlink()
    with pytest.raises(UserError, match=r"It holds thesis\.txt, which preprocessing has not written"):
        world.run()
    assert world.files() == ["free0.b2nd", "free1.b2nd", "thesis.txt"]


def test_names_that_some_disks_take_for_one_are_left_out_and_named(world):
    world.put("FREE0_0000.nii.gz", noise())
    ready, problems = world.run()
    assert ready == 2
    assert len(problems) == 1
    assert "free0: differs from FREE0 only in upper and lower case" in problems[0]


def test_torn_file_of_a_killed_run_is_removed(world):
    world.run()
    torn = temporary_beside(world.folder() / "free0.b2nd")
    torn.with_name(torn.name + ".b2nd").write_bytes(b"torn")
    assert world.run() == (2, [])
    assert world.files() == ["free0.b2nd", "free1.b2nd", RECIPE_FILE]


def test_file_appears_only_when_it_is_complete(world, monkeypatch):
    world.run()
    for file in world.folder().glob("free*"):
        file.unlink()
    seen = []

    def fail(source, target):
        seen.append((Path(target).exists(), blosc2.open(str(source), mode="r").shape))
        raise OSError("disk full")

    monkeypatch.setattr("nnunet_semisam.io.atomic.os.replace", fail)
    with pytest.raises(
        UserError, match=r"free[01]\.b2nd cannot be written \(disk full; .* GB are free\)\. What is done"
    ):
        world.run()
    assert seen == [(False, (1, *tiny_nnunet.SHAPE))]
    assert world.files() == [RECIPE_FILE]  # nothing half-written is left


def test_run_that_is_killed_at_any_write_goes_on_and_nothing_is_torn(world):
    script = Path(__file__).with_name("killed_preprocess.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.write_bytes(b"")]
)
@pytest.mark.parametrize("torn", ["image", "geometry"])
def test_what_a_power_cut_tore_is_made_again(world, damage, torn):
    world.run()
    file = world.folder() / "free0.b2nd"
    whole = file.read_bytes()
    damage(file if torn == "image" else world.preprocessed / "semisam_geometry" / "free0.json")
    assert world.run() == (2, [])
    assert file.read_bytes() == whole
    assert read_geometry(world.preprocessed, "free0").shape == tiny_nnunet.SHAPE


def test_folder_may_be_a_link_to_another_disk(world, tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / RECIPE_FILE).write_text('{"recipe": "another"}')
    world.folder().symlink_to(tmp_path / "scratch")
    assert world.run() == (2, [])
    assert world.folder().is_symlink()


# ------------------------------------------------------------------------------- bad input: named, the rest is done


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


@pytest.mark.parametrize(
    "damage",
    [
        {"data_identifier": "../victim"},
        {"data_identifier": None},
        {"spacing": [float("nan"), 1.0]},
        {"spacing": [0, 1]},
        {"spacing": "1.5"},
        {"patch_size": [0, 32]},
        {"patch_size": "x"},
        {"normalization_schemes": ["Foo"]},
        {"normalization_schemes": []},
        {"preprocessor_name": "Foo"},
        {"resampling_fn_data": "Foo"},
        {"inherits_from": "2d"},
    ],
)
def test_plans_that_cannot_be_used_stop_before_anything_is_touched(world, damage):
    victim = world.preprocessed.parent / "victim_unlabeled"
    victim.mkdir()
    (victim / "precious").touch()
    world.plans["configurations"]["2d"] |= damage
    before = sorted(world.preprocessed.parent.rglob("*"))
    with pytest.raises(UserError, match=r"nnUNetPlans\.json: nothing can be preprocessed with .* .2d. \("):
        world.run()
    assert sorted(world.preprocessed.parent.rglob("*")) == before


def test_all_problems_are_told_at_once(world):
    world.put("flat_0000.nii.gz", np.zeros(tiny_nnunet.SHAPE))
    world.put("far_0000.nii.gz", noise(), (1.5, 1.5, 600.0))
    (world.images / "notes.txt").touch()
    (world.images / ".DS_Store").touch()  # not worth a word
    ready, problems = world.run()
    assert (ready, len(problems)) == (2, 3)


def test_too_little_disk_space_is_told_before_any_work(world, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * 8 * 40 * 40 * 4 - 1))
    with pytest.raises(UserError, match=r"2 unlabeled cases may need 0\.0 GB below .*are free\. Make room"):
        world.run()
    assert world.files() == [RECIPE_FILE]
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * 8 * 40 * 40 * 4))
    assert world.run() == (2, [])


def test_image_that_kills_its_process_is_named_and_all_others_are_done(world, monkeypatch):
    for case in ("bad", "good"):
        world.put(f"{case}_0000.nii.gz", noise())

    def die_of_one(job) -> str | None:
        if job.case == "bad":
            os.kill(os.getpid(), signal.SIGKILL)
        return preprocess_case(job)

    monkeypatch.setattr(module, "preprocess_case", die_of_one)
    monkeypatch.setattr(die_of_one, "__module__", module.__name__)
    monkeypatch.setattr(die_of_one, "__qualname__", "preprocess_case")
    monkeypatch.setattr(case_workers, "multiprocessing", SimpleNamespace(get_context=forked))
    ready, problems = world.run(num_processes=2)
    assert ready == 3
    (problem,) = problems
    assert re.search(r"bad_0000\.nii\.gz: its process was killed, most likely for lack of memory\. .*remove", problem)
    assert world.files() == ["free0.b2nd", "free1.b2nd", "good.b2nd", RECIPE_FILE]


def test_folder_without_images_says_what_to_put_there(world):
    for file in world.images.iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"holds no image\. Put files named CASE_0000\.nii\.gz there"):
        world.run()
    world.images.rmdir()
    with pytest.raises(UserError, match=r"There is no folder .*imagesUl\. Put the unlabeled images there"):
        world.run()


def test_channels_come_in_order_and_one_file_may_hold_all(tmp_path):
    for name in ("b_0001.png", "a_0000.png", "b_0000.png", "x_y_0000.png", "c_0002.png"):
        (tmp_path / name).touch()
    cases, problems = find_images(tmp_path, ".png", 2)
    paths = {case: tuple(Path(file).name for file in files) for case, files in cases.items()}
    assert paths == {"a": ("a_0000.png",), "b": ("b_0000.png", "b_0001.png"), "x_y": ("x_y_0000.png",)}
    assert problems == ["c: has channels 0002, dataset.json asks for 0000 to 0001."]


def test_a_blank_channel_beside_one_that_varies_is_an_image():
    image = np.stack([noise(), np.zeros(tiny_nnunet.SHAPE)]).astype(np.float32)  # an empty mask, say
    check_image("a", image, 0, 2)
    check_preprocessed(image)
    with pytest.raises(UserError, match=r"a: is constant \(0, 0\): no image"):
        check_image("a", image * 0, 0, 2)
