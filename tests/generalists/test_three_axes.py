"""A 2D SAM along all three axes, and what at least two of them say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM, classes

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CaseInput, CasePrediction
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.three_axes import ThreeAxesGeneralist, Votes
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.settings import Settings

SHAPE = (18, 22, 26)


def built(tmp_path, backend=None, spacing=(1.0, 1.0, 1.0), **block) -> ThreeAxesGeneralist:
    settings = Settings.of(use_sam=True, nano={"view": "three_axes", "prompt": "box", **block})
    cache = EmbeddingCache(tmp_path / "embeddings", "3d", 1.0)
    return build_generalist("nano", backend or ThresholdSAM(), settings, classes(), cache, spacing)


def case() -> CaseInput:
    """A bright block that the specialist sees one voxel too high along each axis."""
    image = np.zeros((1, *SHAPE), dtype=np.float32)
    image[0, 4:10, 8:16, 12:20] = 1.0
    specialist = np.zeros((classes().channels + 1, *SHAPE), dtype=np.float32)
    specialist[1, 5:11, 9:17, 13:21] = 0.9
    specialist[0] = 1 - specialist[1]
    return CaseInput("case", image, specialist)


def of_voxels(probs, predicted=True, rejected=False, reliability=1.0) -> CasePrediction:
    probs = np.array(probs, dtype=np.float32).reshape(1, 1, 1, -1)
    filled = (np.broadcast_to(np.array(each), probs.shape) for each in (reliability, predicted, rejected))
    return CasePrediction(probs, *filled)


def majority(*predictions: CasePrediction) -> CasePrediction:
    votes = Votes()
    for prediction in predictions:
        votes.add(prediction)
    return votes.majority()


def test_what_two_of_three_axes_say_counts_with_their_mean_and_their_share():
    found = majority(of_voxels([0.9, 0.2, 0.8]), of_voxels([0.7, 0.3, 0.6]), of_voxels([0.1, 0.8, 0.7]))
    assert found.probs.flatten().tolist() == pytest.approx([0.8, 0.25, 0.7])
    assert found.reliability.flatten().tolist() == pytest.approx([2 / 3, 2 / 3, 1])
    assert found.predicted.all()


def test_reliability_is_that_of_the_majority_only():
    found = majority(of_voxels([0.9], reliability=0.6), of_voxels([0.9], reliability=0.3), of_voxels([0.0]))
    assert found.reliability.item() == pytest.approx((0.6 + 0.3) / 3)


def test_without_a_majority_nothing_is_predicted():
    one = majority(of_voxels([0.9]), of_voxels([0.9], predicted=False), of_voxels([0.9], predicted=False))
    tie = majority(of_voxels([0.9]), of_voxels([0.1]), of_voxels([0.9], predicted=False))
    for found in (one, tie):
        assert not found.predicted.any()
        assert not found.rejected.any()
        assert found.probs.max() == 0


def test_a_rejected_mask_has_no_vote():
    found = majority(of_voxels([0.9]), of_voxels([0.9]), of_voxels([0.1], rejected=True))
    assert found.predicted.all()
    assert not found.rejected.any()
    found = majority(of_voxels([0.9]), of_voxels([0.9], rejected=True), of_voxels([0.1], predicted=False))
    assert not found.predicted.any()
    assert found.rejected.all()


def test_no_votes_have_no_majority():
    with pytest.raises(ValueError, match="no votes"):
        Votes().majority()


def test_a_block_comes_back_where_it_was_and_every_axis_was_prompted(tmp_path):
    result = built(tmp_path).predict_case(case())
    found = result.prediction.probs[0] > 0.5
    # Along an axis, slices without a component are not seen, and boxes have a margin of one voxel within slices: of the
    # block's first layers (4, 8 and 12), each is missing along its own axis only.
    expected = np.zeros(SHAPE, dtype=bool)
    expected[4:10, 8:16, 12:20] = True
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    expected &= (z == 4).astype(int) + (y == 8) + (x == 12) < 2
    assert np.array_equal(found, expected)
    assert result.counts.prompts[0] == 6 + 8 + 8
    assert not result.prediction.predicted[1:].any()
    assert result.cache_hit is False


def test_embeddings_of_each_axis_are_cached_apart(tmp_path):
    sam = ThresholdSAM()
    generalist = built(tmp_path, sam)
    first = generalist.predict_case(case())
    assert sam.encoded == sum(SHAPE)
    again = generalist.predict_case(case())
    assert sam.encoded == sum(SHAPE)
    assert again.cache_hit is True
    assert np.array_equal(first.prediction.probs, again.prediction.probs)
    folders = {path.parent.name for path in (tmp_path / "embeddings").rglob("*.npz")}
    assert folders == {f"slices{axis}-channel0" for axis in range(3)}


def test_records_name_the_view(tmp_path):
    assert built(tmp_path).about() == {"name": "nano", "fingerprint": "threshold-1", "view": "three_axes"}


def test_nothing_predicted_is_nothing_encoded(tmp_path):
    sam = ThresholdSAM()
    empty = case()
    empty.specialist[:] = 0
    empty.specialist[0] = 1
    result = built(tmp_path, sam).predict_case(empty)
    assert sam.encoded == 0
    assert result.cache_hit is None
    assert not result.prediction.predicted.any()


@pytest.mark.parametrize(("spacing", "shown"), [((1.0, 1.0, 1.0), 0), ((1.0, 3.0, 1.0), 1)])
def test_pictures_show_the_prompts_of_the_axis_of_the_largest_spacing(tmp_path, spacing, shown):
    generalist = built(tmp_path, spacing=spacing)
    result = generalist.predict_case(case())
    assert generalist.axis == shown
    prompts = generalist.prompts_in_slice(result, 12 if shown else 7)
    assert len(prompts) == 1
    rows = (9, 17) if shown == 0 else (5, 11)
    assert prompts.boxes[0, 0].tolist() == pytest.approx(rows, abs=1)


@pytest.mark.parametrize(("backend", "spacing"), [(ThresholdSAM(3), (1.0, 1.0, 1.0)), (ThresholdSAM(), (1.0, 1.0))])
def test_models_and_configurations_without_three_axes_of_slices_are_refused(tmp_path, backend, spacing):
    with pytest.raises(UserError, match="needs a 2D model and a 3D configuration"):
        built(tmp_path, backend, spacing)


def test_it_goes_together_with_versions_of_the_image(tmp_path):
    generalist = built(tmp_path, augmented_images=1, augmentation_noise=0.0)
    found = generalist.predict_case(case()).prediction.probs[0] > 0.5
    assert torch.from_numpy(found[5:10, 9:16, 13:20]).float().mean() > 0.95
