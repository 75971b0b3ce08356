"""Specialist and generalist, one label: every row of the table of confidence, by hand."""

import numpy as np
import pytest
from tiny_world import classes, regions

from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.pseudo_labels import fusion
from nnunet_semisam.pseudo_labels.connectivity import ConnectivityPrior, ConnectivitySettings
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusionSettings
from nnunet_semisam.pseudo_labels.second_opinion import SecondOpinion

DEFAULT = FusionSettings()


def fuse(specialist, prediction, labels, weights, settings=DEFAULT, priors=CasePriors(), second=None):  # noqa: B008
    return fusion.fuse(specialist, prediction, labels, weights, settings, priors, second)


def softmax(*foreground: float) -> np.ndarray:
    """One voxel: background first."""
    return np.array([1 - sum(foreground), *foreground], dtype=np.float32).reshape(-1, 1, 1)


def says(*probs: float, reliability: float = 1.0, predicted: bool = True, rejected: bool = False) -> CasePrediction:
    sam = np.array(probs, dtype=np.float32).reshape(-1, 1, 1)
    return CasePrediction(
        sam, np.full_like(sam, reliability), np.full(sam.shape, predicted), np.full(sam.shape, rejected, dtype=bool)
    )


def of_voxel(fused) -> tuple[int, float]:
    return int(fused.label[0, 0]), pytest.approx(float(fused.confidence[0, 0]), abs=1e-5)


NEVER = (0.0, 0.0)
HALF = GeneralistWeights((0.5,), (NEVER,))


OFF = GeneralistWeights((0.0,), (NEVER,))


def opinion(alike: float, dice: float = 1.0) -> SecondOpinion:
    return SecondOpinion(np.full((1, 1, 1), alike, dtype=np.float32), (dice,), (True,))


def test_a_second_opinion_vouches_for_a_class_that_no_generalist_helps_in():
    silent = says(0.0, predicted=False)
    fused = fuse(softmax(0.9), silent, classes(), OFF, second=opinion(0.95))
    assert of_voxel(fused) == (1, DEFAULT.second_opinion * 0.8 * 0.95)
    assert fused.confidence > 0.5, "it is learned"
    assert fuse(softmax(0.9), silent, classes(), OFF, second=opinion(0.5)).confidence < 0.5


def test_background_needs_a_second_opinion_too():
    silent = says(0.0, predicted=False)
    assert of_voxel(fuse(softmax(0.05), silent, classes(), OFF, second=opinion(0.95))) == (0, 0.9 * 0.95)
    assert of_voxel(fuse(softmax(0.2), silent, classes(), OFF, second=opinion(0.6))) == (0, 0.6 * 0.6)


def test_where_an_inactive_generalist_says_otherwise_nobody_knows():
    for own, other in ((0.9, 0.0), (0.05, 0.9)):
        assert fuse(softmax(own), says(other), classes(), OFF, second=opinion(1.0)).confidence == 0.0
    agreed = fuse(softmax(0.05), says(0.0), classes(), OFF, second=opinion(1.0))
    assert of_voxel(agreed) == (0, 0.9), "background in the box of an inactive class is as good as elsewhere"


def test_a_class_that_two_predictions_of_the_case_show_in_other_places_loses_confidence_everywhere():
    agreed = fuse(softmax(0.9), says(0.9), classes(), HALF, second=opinion(1.0, dice=0.3))
    assert of_voxel(agreed) == (1, 0.8 * 0.3), "network and generalist agree in this voxel, but on the case nobody does"
    missed = fuse(softmax(0.0), says(0.0, predicted=False), classes(), HALF, second=opinion(1.0, dice=0.3))
    assert of_voxel(missed) == (0, 0.3), "what was missed is not taught as background"


def test_agreement_gives_confidence_by_its_degree():
    fused = fuse(softmax(0.8), says(0.9), classes(), HALF)
    assert of_voxel(fused) == (1, (1 - 0.1) * 0.7), "0.85 is the fused probability, 0.7 its certainty"


def test_two_coin_flips_that_agree_give_no_confidence():
    assert fuse(softmax(0.51), says(0.52), classes(), HALF).confidence < 0.05


def test_the_generalists_reliability_scales_confidence():
    assert of_voxel(fuse(softmax(0.8), says(0.9, reliability=0.5), classes(), HALF)) == (1, 0.45 * 0.7)


def test_unmeasured_disagreement_gives_little_confidence():
    assert of_voxel(fuse(softmax(0.1), says(0.7), classes(), HALF)) == (0, (1 - 0.6) * 0.2)


def test_measured_accuracy_lifts_confidence_in_disagreement():
    sure = GeneralistWeights((1.0,), ((0.9, 0.6),))
    assert of_voxel(fuse(softmax(0.1), says(0.9), classes(), sure)) == (1, (0.2 + 0.8 * 0.9) * 0.8)
    assert of_voxel(fuse(softmax(0.9), says(0.1), classes(), sure)) == (0, (0.2 + 0.8 * 0.6) * 0.8)


def test_an_inactive_class_keeps_the_specialists_prediction_with_network_only_confidence():
    off = GeneralistWeights((0.0,), (NEVER,))
    assert of_voxel(fuse(softmax(0.9), says(0.0), classes(), off)) == (1, DEFAULT.network_only * 0.8)
    assert of_voxel(fuse(softmax(0.1), says(1.0), classes(), off)) == (0, DEFAULT.network_only * 0.8)


def test_a_rejected_mask_falls_back_to_the_specialist_with_low_confidence():
    fused = fuse(softmax(0.9), says(0.0, predicted=False, rejected=True), classes(), HALF)
    assert of_voxel(fused) == (1, DEFAULT.rejected * 0.8)


def test_where_nothing_was_predicted_background_is_certain_and_foreground_is_not():
    assert of_voxel(fuse(softmax(0.05), says(0.0, predicted=False), classes(), HALF)) == (0, 0.9)
    assert of_voxel(fuse(softmax(0.95), says(0.0, predicted=False), classes(), HALF)) == (1, DEFAULT.network_only * 0.9)


def test_background_is_only_as_sure_as_its_least_sure_class():
    two = GeneralistWeights((0.5, 0.5), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.0, 0.3), says(0.0, 0.0), classes(2), two)) == (0, 0.7 * 0.7)


def test_doubt_about_another_class_does_not_touch_a_voxel_of_a_sure_one():
    weights = GeneralistWeights((0.5, 0.0), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.95, 0.03), says(0.95, 0.0), classes(2), weights)) == (1, 0.9)


def test_two_classes_in_one_voxel_get_no_confidence():
    two = GeneralistWeights((1.0, 1.0), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.5, 0.5), says(1.0, 1.0), classes(2), two)) == (1, 0.0)


def test_a_class_that_takes_more_than_any_heart_shows_gets_no_confidence():
    specialist = np.repeat(softmax(1.0), 4, axis=2)
    prediction = CasePrediction(*(np.repeat(a, 4, axis=2) for a in vars(says(1.0)).values()))
    specialist[:, 0, 0] = (1, 0)
    prediction.probs[:, 0, 0] = 0
    fused = fuse(specialist, prediction, classes(), HALF, priors=CasePriors([(0.1, 0.25)]))
    assert fused.confidence[0].tolist() == [1.0, 0.0, 0.0, 0.0]  # takes 0.75, may take 0.5
    accepted = fuse(specialist, prediction, classes(), HALF, priors=CasePriors([(0.1, 0.375)]))
    assert accepted.confidence[0].tolist() == pytest.approx([1.0] * 4)  # exactly as much as it may


def test_a_class_that_takes_too_little_lowers_the_confidence_of_everything_else():
    specialist = np.repeat(softmax(0.0), 4, axis=2)
    prediction = CasePrediction(*(np.repeat(a, 4, axis=2) for a in vars(says(0.0, predicted=False)).values()))
    missed = fuse(specialist, prediction, classes(), HALF, priors=CasePriors([(0.1, 0.25)]))
    assert not missed.confidence.any()
    optional = fuse(specialist, prediction, classes(), HALF, priors=CasePriors([(0.0, 0.25)]))
    assert optional.confidence.min() == 1


def test_a_spurious_component_becomes_background_of_good_confidence():
    specialist = np.repeat(softmax(1.0), 5, axis=2)[:, None]  # (K, Z, Y, X) = (2, 1, 1, 5)
    specialist[:, 0, 0, 3] = (1.0, 0.0)
    prediction = CasePrediction(*(np.repeat(a, 5, axis=2)[:, None] for a in vars(says(1.0)).values()))
    prediction.probs[:, 0, 0, 3] = 0
    fused = fuse(
        specialist, prediction, classes(), HALF, priors=CasePriors(connectivity=ConnectivityPrior(True, (True,)))
    )
    assert fused.label[0, 0].tolist() == [1, 1, 1, 0, 0]
    assert fused.confidence[0, 0].tolist() == pytest.approx([1, 1, 1, 1, DEFAULT.spurious_background])


def test_a_second_true_focus_is_not_taught_as_background_where_few_patients_are_labeled():
    """One labeled patient with one lesion, an unlabeled one with two, which network and generalist both see."""
    one_focus, two_foci = np.zeros((1, 12, 12), dtype=np.int16), np.zeros((1, 12, 12), dtype=np.int16)
    one_focus[0, 2:5, 2:5] = two_foci[0, 2:5, 2:5] = two_foci[0, 8:10, 8:10] = 1
    second = (two_foci == 1) & (one_focus == 0)
    found = two_foci.astype(np.float32)[None]
    everywhere = np.ones(found.shape, dtype=bool)
    prediction = CasePrediction(found, np.ones_like(found), everywhere, ~everywhere)
    confidence = {}
    for patients, expected in ((1, "auto"), (1, "never"), (10, "auto"), (1, "always")):
        settings = ConnectivitySettings(expected=expected)
        prior = ConnectivityPrior.from_cases([one_focus], classes(), patients, settings)
        fused = fuse(np.concatenate([1 - found, found]), prediction, classes(), HALF, priors=CasePriors(None, prior))
        taught_as_background = np.where(fused.label == 0, fused.confidence, 0.0)
        confidence[patients, expected] = float(taught_as_background[second].max())
        assert fused.confidence[one_focus == 1].min() == 1.0
    sure = pytest.approx(DEFAULT.spurious_background)
    assert confidence == {(1, "auto"): 0.0, (1, "never"): 0.0, (10, "auto"): sure, (1, "always"): sure}


def test_regions_need_every_region_to_be_sure_and_follow_the_order_of_the_label_manager():
    both = GeneralistWeights((0.5, 0.5), (NEVER, NEVER))
    specialist = np.array([0.9, 0.2], dtype=np.float32).reshape(2, 1, 1)
    assert of_voxel(fuse(specialist, says(0.9, 0.0), regions(), both)) == (1, 0.8 * 0.8)
    core_only = np.array([0.1, 0.9], dtype=np.float32).reshape(2, 1, 1)
    assert of_voxel(fuse(core_only, says(0.1, 0.9), regions(), both)) == (2, 0.0)  # core outside of the whole


def test_confidence_is_finite_in_range_and_the_label_known_for_random_predictions():
    rng = np.random.default_rng(0)
    for labels, outputs in ((classes(2), 3), (regions(), 2)):
        specialist = rng.dirichlet(np.ones(outputs), size=(4, 5)).transpose(2, 0, 1).astype(np.float32)
        prediction = CasePrediction(*rng.random((2, 2, 4, 5), dtype=np.float32), *(rng.random((2, 2, 4, 5)) > 0.5))
        weights = GeneralistWeights(tuple(rng.random(2)), tuple(rng.random((2, 2))))
        fused = fuse(specialist, prediction, labels, weights, priors=CasePriors([(0.1, 0.2), (0.0, 0.0)]))
        assert fused.label.dtype == np.int16
        assert fused.confidence.dtype == np.float32
        assert fused.confidence.min() >= 0
        assert fused.confidence.max() <= 1
        assert set(np.unique(fused.label)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"specialist": softmax(0.3, 0.3)}, "channels of the specialist"),
        ({"specialist": softmax(float("nan"))}, "diverged"),
        ({"priors": CasePriors([(0, 1), (0, 1)])}, "area_bounds"),
        ({"weights": GeneralistWeights((1.0, 1.0), (NEVER, NEVER))}, "weights"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        fuse(**{"specialist": softmax(0.5), "prediction": says(0.5), "labels": classes(), "weights": HALF, **changes})
