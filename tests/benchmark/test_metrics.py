"""Metrics against numbers worked out by hand; what is undefined is never scored as perfect."""

import json
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
    assert found["volume_bias"].value == pytest.approx(-25 * 9.0 / 1000)
    assert found["volume_error"].value == pytest.approx(25 * 9.0 / 1000)


@pytest.mark.parametrize(("predicted", "truth", "status"), [(0, 1, "missed"), (1, 0, "invented")])
def test_undefined_distances_are_scored_as_the_worst_possible(predicted, truth, status):
    found = scored(TRUTH & bool(predicted), TRUTH & bool(truth))
    diagonal = math.sqrt((5 * 10.0) ** 2 + (19 * 1.5) ** 2 + (19 * 2.0) ** 2)
    assert found["dice"].scored == 0.0
    for name in ("hd95", "assd"):
        assert math.isnan(found[name].value)
        assert found[name].scored == pytest.approx(diagonal)
    assert {score.status for score in found.values()} == {status}


def test_label_in_neither_is_not_judged():
    empty = np.zeros(SHAPE, bool)
    found = scored(empty, empty)
    assert all(math.isnan(found[name].scored) for name in ("dice", "hd95", "assd"))
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


@pytest.mark.parametrize("fault", ["missing", "torn", "other shape"])
def test_unusable_prediction_is_a_failure_of_every_label(tmp_path, fault):
    truth = np.zeros(SHAPE)
    truth[2:4, 5:10, 5:10] = 1
    write(tmp_path / "truth.nii.gz", truth)
    if fault == "torn":
        (tmp_path / "predicted.nii.gz").write_bytes(b"\x1f\x8b torn")
    elif fault == "other shape":
        write(tmp_path / "predicted.nii.gz", truth[:3])
    scores = metrics.score_case(tmp_path / "predicted.nii.gz", tmp_path / "truth.nii.gz", DATASET)
    assert len(scores) == 2 * len(metrics.UNITS)
    assert {score.status for score in scores} == {"no prediction"}
    assert {score.scored for score in scores if score.metric == "dice"} == {0.0}
    json.dumps([score.scored for score in scores], allow_nan=False)  # every score is a number


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
