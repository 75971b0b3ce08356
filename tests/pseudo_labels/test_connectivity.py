"""What is connected in labeled cases must be connected in a pseudo-label."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.connectivity import ConnectivityPrior, ConnectivitySettings

CLASSES = Labels((1, 2), has_regions=False, regions=(), to_label_map=lambda probs: probs.argmax(0))
REGIONS = Labels((1, 2), has_regions=True, regions=((1, 2), (2,)), to_label_map=lambda probs: probs[0])
BOTH = ConnectivityPrior(whole=True, classes=(True, True))
NO_LIMIT = [np.inf, np.inf]
MANY = 10  # labeled patients


def heart() -> np.ndarray:
    """Return a wall (1) of 16 voxels around a pool (2) of 9 in the second of three slices."""
    label = np.zeros((3, 12, 12), dtype=np.int16)
    label[1, 1:6, 1:6] = 1
    label[1, 2:5, 2:5] = 2
    return label


def test_what_labeled_cases_show_connected_is_expected_connected():
    assert ConnectivityPrior.from_cases([heart(), heart()], CLASSES, MANY) == BOTH


def test_one_labeled_case_with_two_components_lifts_the_rule():
    two = heart()
    two[1, 8:10, 8:10] = 2
    assert ConnectivityPrior.from_cases([heart(), two], CLASSES, MANY) == ConnectivityPrior(
        whole=False, classes=(True, False)
    )


def test_a_single_lost_voxel_of_annotation_does_not_lift_it():
    label = np.zeros((1, 20, 20), dtype=np.int16)
    label[0, :10, :10], label[0, 15, 15] = 1, 1  # 1 of 101 voxels
    assert ConnectivityPrior.from_cases([label], CLASSES, MANY).whole


def test_slices_that_meet_at_a_corner_are_connected():
    label = np.zeros((2, 4, 4), dtype=np.int16)
    label[0, 0, 0], label[1, 1, 1] = 1, 1
    assert ConnectivityPrior.from_cases([label], CLASSES, MANY).classes == (True, False)  # class 2 is never shown


def test_without_labeled_foreground_nothing_is_expected():
    assert ConnectivityPrior.from_cases([np.zeros_like(heart())], CLASSES, MANY) == ConnectivityPrior(
        False, (False, False)
    )


def test_regions_are_judged_together_only():
    assert ConnectivityPrior.from_cases([heart()], REGIONS, MANY) == ConnectivityPrior(
        whole=True, classes=(False, False)
    )


@pytest.mark.parametrize("prior", [ConnectivityPrior(True, (False, False)), BOTH])
def test_a_component_beside_the_heart_is_spurious(prior):
    label = heart()
    label[1, 8:10, 8:10] = 2
    assert np.argwhere(prior.spurious(label, CLASSES, NO_LIMIT)).tolist() == [[1, y, x] for y in (8, 9) for x in (8, 9)]


def test_a_component_of_a_class_inside_the_heart_is_spurious_only_by_its_class():
    label = heart()
    label[1, 1, 1] = 2  # a corner of the wall; the pool begins at (2, 2), which becomes wall
    label[1, 2, 2] = 1
    found = BOTH.spurious(label, CLASSES, NO_LIMIT)
    assert np.argwhere(found).tolist() == [[1, 1, 1]]
    assert not ConnectivityPrior(True, (False, False)).spurious(label, CLASSES, NO_LIMIT).any()


def test_a_huge_component_of_one_class_does_not_win_over_a_heart():
    label = heart()
    label[1, 7:12, 0:12] = 1  # 60 voxels against 25
    limited = ConnectivityPrior(True, (False, False)).spurious(label, CLASSES, [16, 9])  # scores 16 and 16 + 9
    assert limited[1, 7:12].all()
    assert not limited[1, :7].any()
    naive = ConnectivityPrior(True, (False, False)).spurious(label, CLASSES, NO_LIMIT)
    assert naive[1, 1:6, 1:6].all(), "by size alone it would win"


def test_nothing_is_spurious_in_an_empty_label_or_without_rules():
    label = heart()
    label[1, 8:10, 8:10] = 2
    assert not ConnectivityPrior(False, (False, False)).spurious(label, CLASSES, NO_LIMIT).any()
    assert not BOTH.spurious(np.zeros_like(label), CLASSES, NO_LIMIT).any()


def test_settings_decide_what_counts_as_connected():
    label = np.zeros((1, 20, 20), dtype=np.int16)
    label[0, :10, :10], label[0, 15, 15:17] = 1, 1  # 2 of 102 voxels
    assert ConnectivityPrior.from_cases([label], CLASSES, MANY).whole
    strict = ConnectivitySettings(share=0.99)
    assert not ConnectivityPrior.from_cases([label], CLASSES, MANY, strict).whole
    corners = np.zeros((2, 4, 4), dtype=np.int16)
    corners[0, 0, 0], corners[1, 1, 1] = 1, 1
    assert not ConnectivityPrior.from_cases([corners], CLASSES, MANY, ConnectivitySettings(neighbours=6)).whole


def test_few_labeled_patients_say_what_is_expected_but_not_that_all_else_is_background():
    assert [ConnectivityPrior.from_cases([heart()], CLASSES, patients).certain for patients in (1, 3, 4)] == [
        False,
        False,
        True,
    ]
    asked = ConnectivitySettings(min_patients=1)
    assert ConnectivityPrior.from_cases([heart()], CLASSES, 1, asked).certain


def test_the_user_may_know_better_than_labeled_cases():
    two = heart()
    two[1, 8:10, 8:10] = 2
    always = ConnectivityPrior.from_cases([two], CLASSES, 1, ConnectivitySettings(expected="always"))
    assert (always.whole, always.classes, always.certain) == (False, (True, True), True)
    assert ConnectivityPrior.from_cases([heart()], CLASSES, MANY, ConnectivitySettings(expected="never")) is None
