"""Metrics against numbers worked out by hand; what is undefined is never scored as perfect."""

import gzip
import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK

from nnunet_semisam.benchmark import metrics

SPACING = (10.0, 1.5, 2.0)  # mm along Z, Y, X
SHAPE = (6, 20, 20)


def box(z, y, x):
    mask = np.zeros(SHAPE, bool)
    mask[z, y, x] = True
    return mask


def scored(predicted, truth, spacing=SPACING):
    return {score.metric: score for score in metrics.score_masks("a", predicted, truth, spacing)}


TRUTH = box(slice(2, 4), slice(5, 10), slice(5, 10))


def test_equal_masks_are_perfect():
    found = scored(TRUTH, TRUTH)
    assert {name: score.value for name, score in found.items()} == {
        "dice": 1.0,
        "hd95": 0.0,
        "assd": 0.0,
        "volume_error": 0.0,
        "volume_bias": 0.0,
    }
    assert {score.status for score in found.values()} == {"ok"}


@pytest.mark.parametrize(("axis", "distance"), [(0, 10.0), (1, 1.5), (2, 2.0)])
def test_distances_are_in_millimetres_along_every_axis(axis, distance):
    """Single voxels: the distance between them is one voxel size, whatever the percentile or mean."""
    place = [3, 5, 5]
    other = list(place)
    other[axis] += 1
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[tuple(place)], second[tuple(other)] = True, True
    found = scored(first, second)
    assert found["hd95"].value == pytest.approx(distance)
    assert found["assd"].value == pytest.approx(distance)


def test_shifted_box_by_hand():
    """A 5 x 5 square in one slice, shifted by one voxel along X (2 mm)."""
    truth, predicted = box(3, slice(5, 10), slice(5, 10)), box(3, slice(5, 10), slice(6, 11))
    found = scored(predicted, truth)
    assert found["dice"].value == pytest.approx(2 * 20 / 50)
    # a single slice: every voxel is surface; 20 of 25 coincide, 5 are 2 mm away, in both directions
    assert found["assd"].value == pytest.approx(5 * 2.0 / 25)
    assert found["hd95"].value == pytest.approx(2.0)


def test_volumes_are_in_millilitres_and_the_bias_has_a_sign():
    smaller = box(slice(2, 3), slice(5, 10), slice(5, 10))
    found = scored(smaller, TRUTH)
    assert found["volume_bias"].value == pytest.approx(-25 * 30.0 / 1000)
    assert found["volume_error"].value == pytest.approx(25 * 30.0 / 1000)


@pytest.mark.parametrize(("predicted", "truth", "status"), [(0, 1, "missed"), (1, 0, "invented")])
def test_undefined_distances_are_scored_as_the_worst_possible(predicted, truth, status):
    found = scored(TRUTH & bool(predicted), TRUTH & bool(truth))
    diagonal = math.sqrt((5 * 10.0) ** 2 + (19 * 1.5) ** 2 + (19 * 2.0) ** 2)
    assert found["dice"].scored == 0.0
    for name in ("hd95", "assd"):
        assert found[name].value is None
        assert found[name].scored == pytest.approx(diagonal)
    assert {score.status for score in found.values()} == {status}


def test_label_in_neither_is_not_evaluated():
    empty = np.zeros(SHAPE, bool)
    found = scored(empty, empty)
    assert all(found[name].scored is None for name in ("dice", "hd95", "assd"))
    assert found["dice"].status == "absent"


def test_no_distance_is_longer_than_the_penalty():
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[0, 0, 0], second[-1, -1, -1] = True, True
    assert scored(first, second)["hd95"].value == pytest.approx(metrics.diagonal_mm(SHAPE, SPACING))


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="must fit"):
        metrics.score_masks("a", np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), SPACING)


DATASET = {"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, "file_ending": ".nii.gz"}


def write(path, array):
    image = SimpleITK.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(path))


def test_files_regions_and_ignored_voxels(tmp_path):
    truth, predicted = np.zeros(SHAPE), np.zeros(SHAPE)
    truth[2:4, 5:10, 5:10], predicted[2:4, 5:10, 5:10] = 1, 1
    truth[3, 6:8, 6:8], predicted[3, 6:8, 6:8] = 2, 2
    truth[0], predicted[0] = 3, 2  # a whole slice that must not count
    write(tmp_path / "truth.nii.gz", truth)
    write(tmp_path / "predicted.nii.gz", predicted)
    scores = metrics.score_case(tmp_path / "predicted.nii.gz", tmp_path / "truth.nii.gz", DATASET)
    assert {score.label for score in scores} == {"whole", "core"}
    assert {score.value for score in scores if score.metric == "dice"} == {1.0}
    assert {score.value for score in scores if score.metric == "hd95"} == {0.0}


@pytest.mark.parametrize("fault", ["missing", "torn", "cut off", "other shape"])
def test_unusable_prediction_is_a_failure_of_every_label(tmp_path, fault):
    truth = np.zeros(SHAPE)
    truth[2:4, 5:10, 5:10] = 1
    write(tmp_path / "truth.nii.gz", truth)
    if fault == "torn":
        (tmp_path / "predicted.nii.gz").write_bytes(b"\x1f\x8b torn")
    elif fault == "cut off":  # ITK reads it and fills the rest with zeros
        write(tmp_path / "predicted.nii.gz", truth)
        content = gzip.decompress((tmp_path / "predicted.nii.gz").read_bytes())
        (tmp_path / "predicted.nii.gz").write_bytes(gzip.compress(content[: len(content) * 3 // 4]))
    elif fault == "other shape":
        write(tmp_path / "predicted.nii.gz", truth[:3])
    scores = metrics.score_case(tmp_path / "predicted.nii.gz", tmp_path / "truth.nii.gz", DATASET)
    assert len(scores) == 2 * len(metrics.UNITS)
    assert {score.status for score in scores} == {"no prediction"}
    assert {score.scored for score in scores if score.metric == "dice"} == {0.0}
    assert all(math.isfinite(score.scored) for score in scores)


def test_too_little_memory_is_no_failure_of_a_prediction(tmp_path, monkeypatch):
    for name in ("truth", "predicted"):
        write(tmp_path / f"{name}.nii.gz", np.ones(SHAPE))
    read = metrics._read

    def read_the_label_only(path, dataset_json):
        if path.name.startswith("predicted"):
            raise MemoryError
        return read(path, dataset_json)

    monkeypatch.setattr(metrics, "_read", read_the_label_only)
    with pytest.raises(MemoryError):
        metrics.score_case(tmp_path / "predicted.nii.gz", tmp_path / "truth.nii.gz", DATASET)


def disc(radius, size=80):
    y, x = np.indices((size, size))
    return np.hypot(y - size // 2, x - size // 2) <= radius


def by_hand(first, second):
    """Distances between the outlines of two discs: every outline pixel to the nearest one of the other."""
    outlines = []
    for mask in (first, second):
        inner = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        outlines.append(np.argwhere(mask & ~np.pad(inner, 1)))
    apart = np.hypot(*(outlines[0][:, None] - outlines[1][None]).transpose(2, 0, 1))
    there, back = apart.min(axis=1), apart.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return hd95, (there.sum() + back.sum()) / (len(there) + len(back))


def test_outlines_of_two_dimensional_images_are_compared_in_pixels(tmp_path):
    """A disc within a disc: every pixel of a flat mask would be surface if the image were a volume."""
    from skimage import io

    truth, predicted = disc(25), disc(20)
    for name, mask in (("truth", truth), ("predicted", predicted)):
        io.imsave(tmp_path / f"{name}.png", mask.astype(np.uint8), check_contrast=False)
    dataset = {"labels": {"background": 0, "a": 1}, "file_ending": ".png"}
    scores = metrics.score_case(tmp_path / "predicted.png", tmp_path / "truth.png", dataset)
    found = {score.metric: score for score in scores}
    hd95, assd = by_hand(predicted, truth)
    assert assd == pytest.approx(5, abs=0.4)  # the radii differ by five pixels
    assert found["hd95"].value == pytest.approx(hd95, abs=0.02)
    assert found["assd"].value == pytest.approx(assd, abs=1e-4)
    assert found["volume_error"].value == truth.sum() - predicted.sum()
    assert {name: score.unit for name, score in found.items()} == {
        **{"dice": "1", "hd95": "px", "assd": "px", "volume_error": "px2", "volume_bias": "px2"}
    }
    (nothing,) = [
        score
        for score in metrics.score_case(tmp_path / "none.png", tmp_path / "truth.png", dataset)
        if score.metric == "volume_error"
    ]
    assert (nothing.scored, nothing.unit) == (truth.sum(), "px2")


def test_two_dimensional_images_with_a_size_are_compared_in_millimetres(tmp_path):
    for name, mask in (("truth", disc(25)), ("predicted", disc(20))):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing((0.5, 0.5))
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    dataset = {"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    scores = metrics.score_case(tmp_path / "predicted.nii.gz", tmp_path / "truth.nii.gz", dataset)
    found = {score.metric: score for score in scores}
    assert found["assd"].value == pytest.approx(by_hand(disc(20), disc(25))[1] / 2, abs=1e-4)
    assert found["volume_error"].value == pytest.approx((disc(25).sum() - disc(20).sum()) / 4)
    assert (found["assd"].unit, found["volume_error"].unit) == ("mm", "mm2")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_surface_of_a_single_slice_is_its_outline_and_its_volume_is_one(axis):
    spacing = [2.0, 2.0, 2.0]
    spacing[axis] = 8.0
    found = scored(np.expand_dims(disc(20), axis), np.expand_dims(disc(25), axis), spacing)
    assert found["assd"].value == pytest.approx(2 * by_hand(disc(20), disc(25))[1], abs=1e-4)
    assert found["volume_error"].value == pytest.approx((disc(25).sum() - disc(20).sum()) * 2 * 2 * 8 / 1000)
    assert (found["assd"].unit, found["volume_error"].unit) == ("mm", "ml")


def test_a_line_of_voxels_has_a_distance():
    first, second = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    first[0, 0, 2], second[0, 0, 5] = True, True
    assert scored(first, second)["assd"].value == pytest.approx(3 * SPACING[2])


def test_scoring_in_threads_neither_shows_warnings_of_monai_nor_hides_others():
    mask = np.zeros((40, 96, 96), bool)  # large enough for threads to take turns in the middle of it
    mask[10:30, 20:70, 20:70] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(3) as threads:
            found = list(threads.map(lambda _: metrics.surface_distances(mask, mask, SPACING), range(9)))
        with pytest.raises(UserWarning, match="of somebody else"):
            warnings.warn("of somebody else", UserWarning, stacklevel=1)
    assert found == [(0.0, 0.0)] * 9
