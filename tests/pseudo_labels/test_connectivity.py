"""Islands: what is one piece in labeled cases must be one piece in a pseudo-label."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior

CLASSES = Labels((1, 2), has_regions=False, regions=(), to_label_map=lambda probs: probs.argmax(0))
REGIONS = Labels((1, 2), has_regions=True, regions=((1, 2), (2,)), to_label_map=lambda probs: probs[0])
BOTH = PiecePrior(whole=True, classes=(True, True))
NO_LIMIT = [np.inf, np.inf]


def heart() -> np.ndarray:
    """Return a wall (1) of 16 voxels around a pool (2) of 9 in the second of three slices."""
    label = np.zeros((3, 12, 12), dtype=np.int16)
    label[1, 1:6, 1:6] = 1
    label[1, 2:5, 2:5] = 2
    return label


def test_what_labeled_cases_show_in_one_piece_is_expected_in_one_piece():
    assert PiecePrior.from_cases([heart(), heart()], CLASSES) == BOTH


def test_one_labeled_case_with_two_pieces_lifts_the_rule():
    two = heart()
    two[1, 8:10, 8:10] = 2
    assert PiecePrior.from_cases([heart(), two], CLASSES) == PiecePrior(whole=False, classes=(True, False))


def test_a_single_lost_voxel_of_annotation_does_not_lift_it():
    truth = np.zeros((1, 20, 20), dtype=np.int16)
    truth[0, :10, :10], truth[0, 15, 15] = 1, 1  # 1 of 101 voxels
    assert PiecePrior.from_cases([truth], CLASSES).whole


def test_slices_that_meet_at_a_corner_are_one_piece():
    truth = np.zeros((2, 4, 4), dtype=np.int16)
    truth[0, 0, 0], truth[1, 1, 1] = 1, 1
    assert PiecePrior.from_cases([truth], CLASSES).classes == (True, False)  # class 2 is never shown


def test_without_labeled_foreground_nothing_is_expected():
    assert PiecePrior.from_cases([np.zeros_like(heart())], CLASSES) == PiecePrior(False, (False, False))


def test_regions_are_judged_together_only():
    assert PiecePrior.from_cases([heart()], REGIONS) == PiecePrior(whole=True, classes=(False, False))


@pytest.mark.parametrize("prior", [PiecePrior(True, (False, False)), BOTH])
def test_an_island_beside_the_heart_is_stray(prior):
    label = heart()
    label[1, 8:10, 8:10] = 2
    assert np.argwhere(prior.stray(label, CLASSES, NO_LIMIT)).tolist() == [[1, y, x] for y in (8, 9) for x in (8, 9)]


def test_a_piece_of_a_class_inside_the_heart_is_stray_only_by_its_class():
    label = heart()
    label[1, 1, 1] = 2  # a corner of the wall; the pool begins at (2, 2), which becomes wall
    label[1, 2, 2] = 1
    found = BOTH.stray(label, CLASSES, NO_LIMIT)
    assert np.argwhere(found).tolist() == [[1, 1, 1]]
    assert not PiecePrior(True, (False, False)).stray(label, CLASSES, NO_LIMIT).any()


def test_a_huge_island_of_one_class_does_not_win_over_a_heart():
    label = heart()
    label[1, 7:12, 0:12] = 1  # 60 voxels against 25
    limited = PiecePrior(True, (False, False)).stray(label, CLASSES, [16, 9])  # scores 16 and 16 + 9
    assert limited[1, 7:12].all()
    assert not limited[1, :7].any()
    naive = PiecePrior(True, (False, False)).stray(label, CLASSES, NO_LIMIT)
    assert naive[1, 1:6, 1:6].all(), "by size alone the island would win"


def test_nothing_is_stray_in_an_empty_label_or_without_rules():
    label = heart()
    label[1, 8:10, 8:10] = 2
    assert not PiecePrior(False, (False, False)).stray(label, CLASSES, NO_LIMIT).any()
    assert not BOTH.stray(np.zeros_like(label), CLASSES, NO_LIMIT).any()
