"""A SAM that sees mirrored and noisy versions of the image as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM, classes, load_image, predict

from nnunet_semisam.generalists.augmented import ImageVersion, merge_versions, versions
from nnunet_semisam.generalists.base import CaseInput, CasePrediction
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.settings import Settings


def case() -> CaseInput:
    image = load_image("case_b")
    return CaseInput("case_b", image, predict(image).numpy())


def built(tmp_path, backend=None, **block):
    settings = Settings.of(use_sam=True, nano={"prompt": "box_points", **block})
    cache = EmbeddingCache(tmp_path / "embeddings", "2d", 1.0)
    return build_generalist("nano", backend or ThresholdSAM(), settings, classes(), cache, (5.0, 1.0, 1.0))


def of_voxels(probs, predicted, rejected=(False,), reliability=1.0) -> CasePrediction:
    probs = np.array(probs, dtype=np.float32).reshape(1, 1, 1, -1)
    filled = (np.broadcast_to(np.array(each), probs.shape) for each in (reliability, predicted, rejected))
    return CasePrediction(probs, *filled)


def test_a_mirrored_version_is_mirrored_back():
    changed = ImageVersion(1, (1, 2)).change(case())
    assert np.array_equal(changed.image, case().image[:, :, ::-1, ::-1])
    assert np.array_equal(changed.specialist, case().specialist[:, :, ::-1, ::-1])
    assert np.array_equal(ImageVersion(1, (1, 2)).mirror(changed.image), case().image)


def test_noise_is_that_of_the_case_and_the_version():
    first, again, other = (ImageVersion(number, (), 0.2).change(case()).image for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first - case().image).std() == pytest.approx(0.2 * case().image.std(), rel=0.05)


def test_slices_are_mirrored_within_themselves_only():
    made = versions(5, axis=0, noise=0.1)
    assert [each.axes for each in made] == [(), (1,), (2,), (1, 2), (), (1,)]
    assert [each.noise for each in made] == [0, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert len({each.name for each in made}) == 6
    assert [each.axes for each in versions(3, axis=1, noise=0)] == [(), (0,), (2,), (0, 2)]


def test_versions_that_differ_are_less_reliable():
    merged = merge_versions([of_voxels([1.0, 0.8], True), of_voxels([0.0, 0.8], True, reliability=0.5)])
    assert merged.probs.flatten().tolist() == pytest.approx([0.5, 0.8])
    assert merged.reliability.flatten().tolist() == pytest.approx([0.0, 0.75])


def test_a_mask_that_some_versions_reject_counts_less_and_one_that_all_reject_not():
    accepted = of_voxels([0.9, 0.9, 0.0], [True, True, False])
    rejected = of_voxels([0.0, 0.0, 0.0], [False, False, False], [True, False, True])
    merged = merge_versions([accepted, rejected])
    assert merged.probs.flatten().tolist() == pytest.approx([0.9, 0.9, 0.0])
    assert merged.reliability.flatten().tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert merged.predicted.flatten().tolist() == [True, True, False]
    assert merged.rejected.flatten().tolist() == [False, False, True]


def test_a_sam_that_does_not_mind_mirrors_predicts_the_same(tmp_path):
    one, several = built(tmp_path), built(tmp_path, augmented_images=3, augmentation_noise=0.0)
    first, mean = one.predict_case(case()), several.predict_case(case())
    for name, array in vars(first.prediction).items():
        np.testing.assert_allclose(getattr(mean.prediction, name), array, atol=1e-5)
    assert mean.counts == first.counts
    assert several.name == "nano"
    assert len(several.prompts_in_slice(mean, 2)) == 1


def test_every_version_is_encoded_once(tmp_path):
    backend = ThresholdSAM()
    several = built(tmp_path, backend, augmented_images=2)
    results = [several.predict_case(case()) for _ in range(2)]
    assert backend.encoded == 3 * 5
    assert [result.cache_hit for result in results] == [False, True]
    assert torch.is_grad_enabled()


def test_a_version_without_components_is_one_that_predicts_nothing(tmp_path, monkeypatch):
    """On a mirrored grid of tiles a small object can fall below the smallest size: the others still predict it."""
    several = built(tmp_path, augmented_images=1, augmentation_noise=0.0)
    first = several.looks[0].predict_case(case())
    empty = replace(first, prediction=CasePrediction.empty(first.prediction.probs.shape), components=())
    monkeypatch.setattr(several.looks[1], "predict_case", lambda case: empty)
    result = several.predict_case(case())
    assert np.array_equal(result.prediction.probs, first.prediction.probs)
    assert len(result.components) == len(first.components) > 0


def test_nothing_is_encoded_where_nothing_is_prompted(tmp_path):
    backend = ThresholdSAM()
    nothing = np.zeros_like(case().specialist)
    nothing[0] = 1.0
    result = built(tmp_path, backend, augmented_images=2).predict_case(
        CaseInput("case_b", load_image("case_b"), nothing)
    )
    assert backend.encoded == 0
    assert not result.prediction.predicted.any()
