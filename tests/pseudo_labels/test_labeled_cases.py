"""What labeled cases say about areas and connectivity."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_world import classes, disc

from nnunet_semisam.pseudo_labels.connectivity import ConnectivitySettings
from nnunet_semisam.pseudo_labels.fusion import CasePriors
from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases

LABEL = disc((20, 30), 10).astype(np.int16)
SHARE = float((LABEL == 1).mean())


class Dataset:
    def __init__(self, *labels: np.ndarray) -> None:
        self.labels = {f"case_{i}": label for i, label in enumerate(labels)}
        self.identifiers = list(self.labels)

    def load_case(self, case: str) -> tuple[np.ndarray, np.ndarray, None, dict]:
        return np.zeros((1, *LABEL.shape)), self.labels[case][None], None, {}


def priors_of(*labels: np.ndarray) -> CasePriors:
    return LabeledCases(Dataset(*labels), classes()).priors(ConnectivitySettings())


def test_areas_are_bounded_by_the_smallest_and_the_largest_case():
    larger = disc((20, 30), 14).astype(np.int16)
    priors = priors_of(LABEL, larger)
    assert priors.area_bounds == [pytest.approx((SHARE, float(larger.mean())))]
    assert priors.connectivity.whole


def test_ignored_voxels_may_be_of_any_class():
    sparse = np.full_like(LABEL, 2)
    sparse[2] = LABEL[2]  # one annotated slice of five
    priors = priors_of(sparse)
    ((low, high),) = priors.area_bounds
    assert low == pytest.approx((LABEL[2] == 1).mean() / 5)
    assert high == pytest.approx(low + 4 / 5)
    assert low < SHARE < high


def test_partly_annotated_cases_do_not_say_what_is_connected():
    sparse = LABEL.copy()
    sparse[3:] = 2
    assert priors_of(sparse).connectivity is None
    assert priors_of(sparse, LABEL).connectivity.whole


def test_volumes_of_one_patient_are_one_patient():
    cases = LabeledCases(Dataset(*[LABEL] * 4), classes(), group_of=lambda case: "patient_1")
    assert not cases.priors(ConnectivitySettings()).connectivity.certain
    assert priors_of(*[LABEL] * 4).connectivity.certain, "four cases of four patients"


@pytest.mark.parametrize(("expected", "found"), [("auto", False), ("always", True), ("never", False)])
def test_who_knows_better_is_heard_where_no_case_is_annotated_throughout(expected, found):
    sparse = LABEL.copy()
    sparse[3:] = 2
    cases = LabeledCases(Dataset(sparse), classes())
    prior = cases.priors(ConnectivitySettings(expected=expected)).connectivity
    assert (prior is not None) == found
    if prior is not None:
        assert prior.classes == (True,)
        assert prior.certain
        assert not prior.whole
