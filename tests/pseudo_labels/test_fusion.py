"""Two witnesses, one label: every row of the trust table, by hand."""

import numpy as np
import pytest
from tiny_world import classes, regions

from nnunet_semisam.generalists.prediction import SAMOpinion
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior
from nnunet_semisam.pseudo_labels.fusion import COLLAPSED, ONE_WITNESS, STRAY, SAMWeights, fuse


def softmax(*foreground: float) -> np.ndarray:
    """One voxel: background first."""
    return np.array([1 - sum(foreground), *foreground], dtype=np.float32).reshape(-1, 1, 1)


def says(*probs: float, reliability: float = 1.0, asked: bool = True, collapsed: bool = False) -> SAMOpinion:
    sam = np.array(probs, dtype=np.float32).reshape(-1, 1, 1)
    return SAMOpinion(
        sam, np.full_like(sam, reliability), np.full(sam.shape, asked), np.full(sam.shape, collapsed, dtype=bool)
    )


def of_voxel(fused) -> tuple[int, float]:
    return int(fused.label[0, 0]), pytest.approx(float(fused.trust[0, 0]), abs=1e-5)


NEVER = (0.0, 0.0)
HALF = SAMWeights((0.5,), (NEVER,))


def test_agreement_is_trusted_by_its_degree():
    fused = fuse(softmax(0.8), says(0.9), classes(), HALF)
    assert of_voxel(fused) == (1, 1 - 0.1)


def test_the_sams_reliability_scales_trust():
    assert of_voxel(fuse(softmax(0.8), says(0.9, reliability=0.5), classes(), HALF)) == (1, 0.45)


def test_unmeasured_disagreement_is_hardly_trusted():
    assert of_voxel(fuse(softmax(0.1), says(0.7), classes(), HALF)) == (0, 1 - 0.6)


def test_measured_accuracy_lifts_trust_in_disagreement():
    sure = SAMWeights((1.0,), ((0.9, 0.6),))
    assert of_voxel(fuse(softmax(0.1), says(0.9), classes(), sure)) == (1, 0.2 + 0.8 * 0.9)
    assert of_voxel(fuse(softmax(0.9), says(0.1), classes(), sure)) == (0, 0.2 + 0.8 * 0.6)


def test_a_class_that_is_off_keeps_the_networks_opinion_with_the_trust_of_one_witness():
    off = SAMWeights((0.0,), (NEVER,))
    assert of_voxel(fuse(softmax(0.9), says(0.0), classes(), off)) == (1, ONE_WITNESS * 0.8)
    assert of_voxel(fuse(softmax(0.1), says(1.0), classes(), off)) == (0, ONE_WITNESS * 0.8)


def test_a_collapsed_answer_falls_back_to_the_network_with_low_trust():
    fused = fuse(softmax(0.9), says(0.0, asked=False, collapsed=True), classes(), HALF)
    assert of_voxel(fused) == (1, COLLAPSED * 0.8)


def test_where_nobody_was_asked_background_is_trusted_and_foreground_is_not():
    assert of_voxel(fuse(softmax(0.05), says(0.0, asked=False), classes(), HALF)) == (0, 0.9)
    assert of_voxel(fuse(softmax(0.95), says(0.0, asked=False), classes(), HALF)) == (1, ONE_WITNESS * 0.9)


def test_background_is_only_as_sure_as_its_least_sure_class():
    two = SAMWeights((0.5, 0.5), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.0, 0.3), says(0.0, 0.0), classes(2), two)) == (0, 0.7)


def test_doubt_about_another_class_does_not_touch_a_voxel_of_a_sure_one():
    weights = SAMWeights((0.5, 0.0), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.95, 0.03), says(0.95, 0.0), classes(2), weights)) == (1, 1.0)


def test_two_classes_that_claim_one_voxel_get_no_trust():
    two = SAMWeights((1.0, 1.0), (NEVER, NEVER))
    assert of_voxel(fuse(softmax(0.5, 0.5), says(1.0, 1.0), classes(2), two)) == (1, 0.0)


def test_a_class_that_claims_more_than_any_heart_shows_is_not_believed():
    network = np.repeat(softmax(1.0), 4, axis=2)
    opinion = SAMOpinion(*(np.repeat(a, 4, axis=2) for a in vars(says(1.0)).values()))
    network[:, 0, 0] = (1, 0)
    opinion.probs[:, 0, 0] = 0
    fused = fuse(network, opinion, classes(), HALF, area_bounds=[(0.1, 0.25)], area_factor=2.0)
    assert fused.trust[0].tolist() == [1.0, 0.0, 0.0, 0.0]  # claims 0.75, may claim 0.5
    believed = fuse(network, opinion, classes(), HALF, area_bounds=[(0.1, 0.375)], area_factor=2.0)
    assert believed.trust[0].tolist() == pytest.approx([1.0] * 4)  # exactly as much as it may


def test_a_class_that_claims_too_little_takes_trust_from_everything_else():
    network = np.repeat(softmax(0.0), 4, axis=2)
    opinion = SAMOpinion(*(np.repeat(a, 4, axis=2) for a in vars(says(0.0, asked=False)).values()))
    missed = fuse(network, opinion, classes(), HALF, area_bounds=[(0.1, 0.25)])
    assert not missed.trust.any()
    optional = fuse(network, opinion, classes(), HALF, area_bounds=[(0.0, 0.25)])
    assert optional.trust.min() == 1


def test_an_island_of_what_is_one_piece_becomes_background_of_good_trust():
    network = np.repeat(softmax(1.0), 5, axis=2)[:, None]  # (K, Z, Y, X) = (2, 1, 1, 5)
    network[:, 0, 0, 3] = (1.0, 0.0)
    opinion = SAMOpinion(*(np.repeat(a, 5, axis=2)[:, None] for a in vars(says(1.0)).values()))
    opinion.probs[:, 0, 0, 3] = 0
    fused = fuse(network, opinion, classes(), HALF, pieces=PiecePrior(True, (True,)))
    assert fused.label[0, 0].tolist() == [1, 1, 1, 0, 0]
    assert fused.trust[0, 0].tolist() == pytest.approx([1, 1, 1, 1, STRAY])


def test_regions_need_every_region_to_be_sure_and_follow_the_order_of_the_label_manager():
    both = SAMWeights((0.5, 0.5), (NEVER, NEVER))
    network = np.array([0.9, 0.2], dtype=np.float32).reshape(2, 1, 1)
    assert of_voxel(fuse(network, says(0.9, 0.0), regions(), both)) == (1, 0.8)
    core_only = np.array([0.1, 0.9], dtype=np.float32).reshape(2, 1, 1)
    assert of_voxel(fuse(core_only, says(0.1, 0.9), regions(), both)) == (2, 0.0)  # core outside of the whole


def test_trust_is_finite_in_range_and_the_label_known_for_random_opinions():
    rng = np.random.default_rng(0)
    for layout, outputs in ((classes(2), 3), (regions(), 2)):
        network = rng.dirichlet(np.ones(outputs), size=(4, 5)).transpose(2, 0, 1).astype(np.float32)
        opinion = SAMOpinion(*rng.random((2, 2, 4, 5), dtype=np.float32), *(rng.random((2, 2, 4, 5)) > 0.5))
        weights = SAMWeights(tuple(rng.random(2)), tuple(rng.random((2, 2))))
        fused = fuse(network, opinion, layout, weights, [(0.1, 0.2), (0.0, 0.0)])
        assert fused.label.dtype == np.int16
        assert fused.trust.dtype == np.float32
        assert fused.trust.min() >= 0
        assert fused.trust.max() <= 1
        assert set(np.unique(fused.label)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": softmax(0.3, 0.3)}, "channels of network"),
        ({"network": softmax(float("nan"))}, "diverged"),
        ({"area_bounds": [(0, 1), (0, 1)]}, "area_bounds"),
        ({"weights": SAMWeights((1.0, 1.0), (NEVER, NEVER))}, "weights"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        fuse(**{"network": softmax(0.5), "opinion": says(0.5), "layout": classes(), "weights": HALF, **changes})
