"""Unlabeled images that are copies of labeled ones."""

from __future__ import annotations

from pathlib import Path

import blosc2
import numpy as np

from nnunet_semisam.data.copies import find_copies, images_in


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blosc2.asarray(array.astype(np.float32), urlpath=str(path), mode="w")
    return path


def image(seed: int, shape: tuple[int, ...] = (1, 4, 6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_copy_under_another_name_is_found_and_what_is_only_alike_is_not(tmp_path):
    nearly = image(1)
    nearly[0, 0, 0, 0] += 1.0  # the middle slice is the same
    labeled = {"a": write(tmp_path / "a.b2nd", image(1)), "b": write(tmp_path / "b.b2nd", image(2))}
    unlabeled = {
        "copy": write(tmp_path / "copy.b2nd", image(1)),
        "nearly": write(tmp_path / "nearly.b2nd", nearly),
        "larger": write(tmp_path / "larger.b2nd", image(1, (1, 5, 6, 5))),
    }
    assert list(find_copies(unlabeled, labeled)) == [("copy", "a")]
    assert not list(find_copies({}, labeled))


def test_images_that_show_nothing_are_no_copies_of_each_other(tmp_path):
    blank = [write(tmp_path / f"{name}.b2nd", np.zeros((1, 4, 6, 5))) for name in "ab"]
    assert not list(find_copies({"a": blank[0]}, {"b": blank[1]}))


def test_an_image_that_cannot_be_read_is_left_to_other_checks(tmp_path):
    (tmp_path / "torn.b2nd").write_bytes(b"garbage")
    write(tmp_path / "a.b2nd", image(1))
    torn = {"torn": tmp_path / "torn.b2nd"}
    assert not list(find_copies(torn, {"a": tmp_path / "a.b2nd"}))
    assert not list(find_copies({"a": tmp_path / "a.b2nd"}, torn))


def test_segmentations_and_half_written_files_are_no_images(tmp_path):
    for name in ("a", "a_seg", ".b"):
        write(tmp_path / f"{name}.b2nd", image(1))
    assert images_in(tmp_path) == {"a": tmp_path / "a.b2nd"}
    assert images_in(tmp_path / "nowhere") == {}
