"""What every generalist in the package promises, with the real nano SAM behind it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_video import BrightFollower
from tiny_world import CASES, classes, disc, load_image, predict, regions

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, GeneralistContext
from nnunet_semisam.generalists.build import build_ensemble
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.settings import GENERALISTS as REGISTERED
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import settings as pseudo_label_settings  # noqa: F401  registers the block sam
from nnunet_semisam.pseudo_labels.case_pipeline import check_result
from nnunet_semisam.settings import Settings

SECOND_PASS = {"prompt": "box", "refinement": "second_pass"}
GENERALISTS = {
    "nano": ({"nano": {"refinement": "none"}}, classes()),
    "nano augmented": ({"nano": {"augmented_images": 1, "refinement": "none"}}, regions()),
    "nano second pass": ({"nano": SECOND_PASS}, classes()),
    "prototypes": ({"sam": {"models": ["prototypes"]}}, regions()),
    "propagation": ({"sam": {"models": ["propagation"]}, "propagation": {"prompt": "box"}}, classes()),
    "label_propagation": ({"sam": {"models": ["label_propagation"]}}, classes()),
    "prototypes everywhere": ({"sam": {"models": ["prototypes"]}, "prototypes": {"where": "everywhere"}}, classes()),
}

ELSEWHERE = {"nninteractive"}  # needs a library that is not a test's: test_nninteractive.py has a double of it


class Labeled:
    cases = ("case_a", "case_b")

    def group_of(self, case: str) -> str:
        return case

    def load_image(self, case: str) -> np.ndarray:
        return load_image(case)

    def load_label(self, case: str) -> np.ndarray:
        return disc(CASES[case], 9).astype(np.int16)


@pytest.fixture(params=GENERALISTS)
def name(request) -> str:
    return request.param


@pytest.fixture(autouse=True)
def small_video_sam(monkeypatch) -> None:
    monkeypatch.setattr("nnunet_semisam.generalists.video_sam.build_backend", lambda name, options: BrightFollower())


@pytest.fixture
def settings(name) -> Settings:
    return Settings.of(use_sam=True, **GENERALISTS[name][0])


@pytest.fixture
def labels(name) -> Labels:
    return GENERALISTS[name][1]


def built(settings, labels, folder):
    cache = EmbeddingCache(folder, "2d", 1.0)
    context = GeneralistContext(settings, labels, cache, (5.0, 1.0, 1.0), torch.device("cpu"), predict, Labeled())
    (member,) = build_ensemble(context).members
    return member


def case(labels) -> CaseInput:
    image = load_image("case_c")
    probs = predict(image).numpy()
    return CaseInput("case_c", image, np.stack([probs[1], 0.5 * probs[1]]) if labels.has_regions else probs)


def test_predictions_have_the_shape_and_range_that_the_fusion_expects(settings, labels, tmp_path):
    before = case(labels)
    result = built(settings, labels, tmp_path).predict_case(before)
    shape = (labels.channels, *before.image.shape[1:])
    for part, dtype in (("probs", np.float32), ("reliability", np.float32), ("predicted", bool), ("rejected", bool)):
        array = getattr(result.prediction, part)
        assert array.shape == shape
        assert array.dtype == dtype
    for array in (result.prediction.probs, result.prediction.reliability):
        assert np.isfinite(array).all()
        assert 0 <= array.min() <= array.max() <= 1
    assert result.prediction.predicted.any()
    assert all(spent >= 0 for spent in result.seconds.values())
    assert len(result.counts.prompts) == labels.channels
    assert np.array_equal(before.image, case(labels).image), "inputs are not changed"
    assert np.array_equal(before.specialist, case(labels).specialist)


def test_a_case_is_predicted_alike_each_time_cached_or_not_alone_or_after_others(settings, labels, tmp_path):
    member = built(settings, labels, tmp_path / "first")
    first, cached = member.predict_case(case(labels)), member.predict_case(case(labels))
    other = built(settings, labels, tmp_path / "second")
    other.predict_case(CaseInput("case_x", load_image("case_b"), case(labels).specialist))
    after = other.predict_case(case(labels))
    assert (first.cache_hit, cached.cache_hit) in ((False, True), (None, None))  # none: nothing is encoded
    for again in (cached, after):
        for part, array in vars(first.prediction).items():
            assert np.array_equal(array, getattr(again.prediction, part))
    member.end_round()
    restored = built(settings, labels, tmp_path / "third")
    restored.load_state_dict(member.state_dict())
    assert restored.state_dict().keys() == member.state_dict().keys()


def test_every_registered_generalist_is_here():
    asked = {model for given, _ in GENERALISTS.values() for model in given.get("sam", {}).get("models", [])}
    assert asked | ELSEWHERE == set(REGISTERED.names())


def test_a_generalist_of_other_channels_is_refused(monkeypatch, tmp_path):
    """Its first channel would be taken for the first class."""
    settings = Settings.of(use_sam=True, sam={"models": ["prototypes"]})
    member = built(settings, classes(), tmp_path)
    result = member.predict_case(case(classes()))
    with_background = CasePrediction(*(np.concatenate([part, part]) for part in vars(result.prediction).values()))
    wrong = dataclasses.replace(result, prediction=with_background)
    with pytest.raises(ValueError, match=r"foreground channels, here \(1, .*prototypes returns probs of shape \(2, "):
        check_result(wrong, "prototypes", case(classes()), classes().channels)
