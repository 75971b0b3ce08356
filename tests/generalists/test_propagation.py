"""Objects are prompted in one slice and followed through the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_video import BrightFollower
from tiny_world import classes

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CaseInput, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.propagation import PropagationGeneralist, PropagationSettings, objects_to_follow
from nnunet_semisam.prompts.components import ComponentSettings
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.settings import Settings

SHAPE = (9, 40, 48)
SPACING = (5.0, 1.0, 1.0)


def volume_of(slices: range, corner: tuple[int, int] = (10, 12), step: int = 1) -> np.ndarray:
    """An object of 10 x 12 voxels in some slices, moving by a voxel from slice to slice, bool."""
    volume = np.zeros(SHAPE, dtype=bool)
    for i in slices:
        volume[i, corner[0] : corner[0] + 10, corner[1] + step * i : corner[1] + 12 + step * i] = True
    return volume


def specialist_of(*foreground: np.ndarray, prob: float = 0.8) -> np.ndarray:
    probs = np.stack([np.where(each, prob, 0.02) for each in foreground]).astype(np.float32)
    return np.concatenate([1 - probs.sum(axis=0, keepdims=True), probs])


@pytest.fixture
def sam(monkeypatch) -> BrightFollower:
    sam = BrightFollower()
    monkeypatch.setattr("nnunet_semisam.generalists.video_sam.build_backend", lambda name, options: sam)
    return sam


def built(tmp_path, count: int = 1, spacing=SPACING, **block) -> PropagationGeneralist:
    settings = Settings.of(use_sam=True, sam={"models": ["propagation"]}, propagation={"prompt": "box", **block})
    cache = EmbeddingCache(tmp_path, "2d", 1.0)
    context = GeneralistContext(settings, classes(count), cache, spacing, torch.device("cpu"), None, None)
    (member,) = build_ensemble(context).members
    return member


def case_of(image: np.ndarray, specialist: np.ndarray, name: str = "case_a") -> CaseInput:
    return CaseInput(name, image[None].astype(np.float32), specialist)


def test_slices_that_the_specialist_missed_come_from_the_memory(sam, tmp_path):
    real, seen = volume_of(range(1, 8)), volume_of(range(3, 6))
    result = built(tmp_path).predict_case(case_of(real, specialist_of(seen)))
    found = result.prediction
    assert np.array_equal(found.probs[0] > 0.5, real)
    assert np.flatnonzero(found.predicted[0].any(axis=(1, 2))).tolist() == [1, 2, 3, 4, 5, 6, 7]  # two slices beyond
    assert result.counts.prompts == (1,)
    assert result.counts.rejected == (0,)
    assert float(found.reliability[found.predicted].min()) == pytest.approx(0.9)  # (1 + 0.8) / 2


def test_nothing_counts_outside_the_window_of_an_object(sam, tmp_path):
    real, seen = volume_of(range(0, 9)), volume_of(range(3, 5))
    found = built(tmp_path).predict_case(case_of(real, specialist_of(seen))).prediction
    assert np.flatnonzero(found.predicted[0].any(axis=(1, 2))).tolist() == [1, 2, 3, 4, 5, 6]
    assert not found.probs[~found.predicted].any()


def test_records_of_rounds_name_the_weights(sam, tmp_path):
    assert built(tmp_path).about() == {"name": "propagation", "fingerprint": "follower", "view": "slices0"}


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_may_lie_along_any_axis(sam, tmp_path, axis):
    real, seen = (np.moveaxis(volume_of(each), 0, axis) for each in (range(1, 8), range(3, 6)))
    generalist = built(tmp_path, axis=axis)
    result = generalist.predict_case(case_of(real, specialist_of(seen)))
    assert result.prediction.probs.shape == (1, *real.shape)
    assert np.array_equal(result.prediction.probs[0] > 0.5, real)
    assert sam.encoded == 9
    shown = generalist.prompts_in_slice(result, result.components[0].image)
    assert shown.boxes.shape == (1, 2, 2)
    assert len(generalist.prompts_in_slice(result, 0)) == 0


def test_the_best_slice_is_the_largest_and_most_certain():
    probs = specialist_of(volume_of(range(1, 8), step=0))[1:]
    probs[0, 6] = np.where(probs[0, 6] > 0.5, 0.95, 0.02)
    probs[0, 2, 10:14] = 0.02  # a smaller slice that is as certain as can be
    probs[0, 2] = np.where(probs[0, 2] > 0.5, 1.0, 0.02)
    (found,) = objects_to_follow(probs, False, ComponentSettings(), max_slices=100)
    assert found.prompted.image == 6
    assert found.slices == (0, 9)


def test_no_object_is_followed_further_than_the_settings_say(sam, tmp_path):
    real = volume_of(range(0, 9), step=0)
    probs = specialist_of(real)
    probs[1, 4] = np.where(probs[1, 4] > 0.5, 0.95, 0.02)
    result = built(tmp_path, max_slices=2).predict_case(case_of(real, probs))
    assert np.flatnonzero(result.prediction.predicted[0].any(axis=(1, 2))).tolist() == [2, 3, 4, 5, 6]
    assert result.counts.rejected == (0,)  # held against what was followed, not against all of the object


def test_objects_and_classes_are_followed_each_by_itself(sam, tmp_path):
    first, second = volume_of(range(1, 8), (2, 2), 0), volume_of(range(1, 8), (25, 30), 0)
    other = volume_of(range(2, 6), (2, 30), 0)
    image = first | second | other
    result = built(tmp_path, count=2).predict_case(case_of(image, specialist_of(first | second, other)))
    assert np.array_equal(result.prediction.probs[0] > 0.5, first | second)
    assert np.array_equal(result.prediction.probs[1] > 0.5, other)
    assert result.counts.prompts == (2, 1)


def test_an_object_that_the_sam_does_not_see_is_rejected(sam, tmp_path):
    seen = volume_of(range(3, 6))
    result = built(tmp_path).predict_case(case_of(np.zeros(SHAPE), specialist_of(seen)))
    assert result.counts.rejected == result.counts.empty == (1,)
    assert not result.prediction.predicted.any()
    assert result.prediction.rejected[0][seen].all()


def test_without_an_object_nothing_is_encoded(sam, tmp_path):
    result = built(tmp_path).predict_case(case_of(volume_of(range(3)), specialist_of(np.zeros(SHAPE, dtype=bool))))
    assert sam.encoded == 0
    assert result.cache_hit is None
    assert not result.prediction.predicted.any()


def test_a_case_is_encoded_once(sam, tmp_path):
    generalist, case = built(tmp_path), case_of(volume_of(range(9)), specialist_of(volume_of(range(3, 6))))
    first, second = generalist.predict_case(case), generalist.predict_case(case)
    assert sam.encoded == 9
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert np.array_equal(first.prediction.probs, second.prediction.probs)


def test_a_sam_without_a_memory_is_refused(tmp_path):
    with pytest.raises(UserError, match="without a memory"):
        built(tmp_path, model="nano")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"model": "sam3"}, "Unknown SAM model 'sam3'"),
        ({"prompt": "clicks"}, "Unknown prompt strategy 'clicks'"),
        ({"checkpoint": " "}, "must name a file or folder"),
        ({"max_slices": 0}, "max_slices"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_loaded(block, message):
    with pytest.raises(UserError, match=message):
        PropagationSettings(**block)


def test_the_prompt_is_that_of_the_model_where_none_is_named():
    assert PropagationSettings().strategy == "box_points_mask"
    assert PropagationSettings(model="medsam2").strategy == "box"
    assert PropagationSettings(model="medsam2", prompt="mask").strategy == "mask"
