"""Images without labels are preprocessed as nnU-Net does, once, and whatever stops it tears nothing."""

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
import tiny_nnunet
from unlabeled_world import noise

from nnunet_semisam.data import case_workers
from nnunet_semisam.data import preprocess_unlabeled as module
from nnunet_semisam.data.geometry import read_geometry
from nnunet_semisam.data.image_checks import check_image, check_preprocessed
from nnunet_semisam.data.preprocess_case import preprocess_case
from nnunet_semisam.data.preprocessing_recipe import RECIPE_FILE
from nnunet_semisam.data.unlabeled_images import find_images
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import temporary_beside


def forked(method: str) -> multiprocessing.context.BaseContext:
    """In place of the spawned processes, which would not know what a test replaced."""
    return multiprocessing.get_context("fork")


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
