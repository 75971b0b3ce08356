"""Several generalists predict as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_world import CASES, ThresholdSAM, classes, load_image, predict

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, CaseResult, Generalist, PromptCounts
from nnunet_semisam.generalists.build import build_generalist
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble, merge
from nnunet_semisam.generalists.weights import GeneralistWeights, combined
from nnunet_semisam.pseudo_labels.fusion import fused_probs
from nnunet_semisam.pseudo_labels.settings import SAMSettings  # noqa: F401  registers the blocks
from nnunet_semisam.settings import Settings

NEVER = (0.0, 0.0)


def case(name: str = "case_a") -> CaseInput:
    image = load_image(name)
    return CaseInput(name, image, predict(image).numpy(), (5.0, 1.0, 1.0))


def generalist(name: str, tmp_path, backend=None, **block):
    settings = Settings.of(use_sam=True, **{name: {"prompt": "box_points", **block}})
    cache = EmbeddingCache(tmp_path / "embeddings", "2d", 1.0)
    return build_generalist(name, backend or ThresholdSAM(), settings, classes(), cache, (5.0, 1.0, 1.0))


def weights(*values: float) -> GeneralistWeights:
    return GeneralistWeights(values, (NEVER,) * len(values))


def of_voxels(probs, reliability=1.0, predicted=True, rejected=False) -> CasePrediction:
    """Return a prediction of one class on a row of voxels."""
    probs = np.array(probs, dtype=np.float32).reshape(1, 1, 1, -1)

    def filled(value, dtype) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, dtype=dtype), probs.shape).copy()

    return CasePrediction(probs, filled(reliability, np.float32), filled(predicted, bool), filled(rejected, bool))


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5])
def test_an_ensemble_of_one_is_that_one_bit_for_bit(tmp_path, weight):
    member = generalist("nano", tmp_path)
    ensemble = GeneralistEnsemble([member], channels=1)
    measured = GeneralistWeights((weight,), ((0.3, 0.7),))
    ensemble.use_weights([measured])
    alone, together = member.predict_case(case()), ensemble.predict_case(case())
    for name, array in vars(alone.prediction).items():
        assert np.array_equal(array, getattr(together.prediction, name))
    assert together.counts == alone.counts
    assert ensemble.weights == measured
    assert ensemble.name == "nano"


def test_members_count_by_their_weight_in_the_class():
    merged = merge([of_voxels([1.0, 1.0]), of_voxels([0.0, 1.0])], [weights(0.5), weights(0.25)])
    assert merged.probs.flatten().tolist() == pytest.approx([2 / 3, 1.0])


def test_a_member_counts_only_where_it_predicted_and_was_not_rejected():
    first = of_voxels([1.0, 1.0, 1.0], predicted=[True, False, True], rejected=[False, False, True])
    second = of_voxels([0.4, 0.4, 0.4], reliability=0.5)
    merged = merge([first, second], [weights(0.5), weights(0.5)])
    assert merged.probs.flatten().tolist() == pytest.approx([0.7, 0.4, 0.4])
    assert merged.reliability.flatten().tolist() == pytest.approx([0.75, 0.5, 0.5])
    assert not merged.rejected.any(), "a mask of another member was accepted there"
    both = merge([first, first], [weights(0.5), weights(0.5)])
    assert both.rejected.flatten().tolist() == [False, False, True]


def test_where_only_one_member_counts_it_has_its_own_weight_and_accuracy():
    strong = of_voxels([1.0, 0.0, 0.0], predicted=[True, False, False])
    weak = of_voxels([1.0, 1.0, 0.0], predicted=[True, True, False])
    measured = [GeneralistWeights((0.5,), ((0.9, 0.6),)), GeneralistWeights((0.1,), ((0.3, 0.0),))]
    merged = merge([strong, weak], measured)
    weight, inside, outside = merged.weights_at(0, combined(measured))
    assert weight.flatten().tolist() == pytest.approx([0.5, 0.1, 0.0])
    assert inside.flatten().tolist() == pytest.approx([0.8, 0.3, 0.0])  # (0.5 * 0.9 + 0.1 * 0.3) / 0.6
    assert outside.flatten().tolist() == pytest.approx([0.5, 0.0, 0.0])
    nothing = np.zeros((1, 1, 1, 3), dtype=np.float32)
    assert fused_probs(nothing, merged, combined(measured)).flatten().tolist() == pytest.approx([0.5, 0.1, 0.0])


def test_a_class_with_one_active_member_is_that_members():
    first, second = of_voxels([0.3]), of_voxels([0.9])
    merged = merge([first, second], [weights(0.0), weights(0.25)])
    assert np.array_equal(merged.probs, second.probs)


def test_members_that_help_in_no_class_are_not_asked_to_predict(tmp_path):
    backend = ThresholdSAM()
    members = [generalist("nano", tmp_path), generalist("vit_b", tmp_path, backend)]
    ensemble = GeneralistEnsemble(members, channels=1)
    ensemble.use_weights([weights(0.5), weights(0.0)])
    result = ensemble.predict_case(case())
    assert backend.encoded == 0
    assert result.counts.prompts == (3,)
    ensemble.use_weights([weights(0.5), weights(0.25)])
    both = ensemble.predict_case(case())
    assert both.counts.prompts == (6,)
    assert both.cache_hit, "both see the same images of the same SAM"
    assert len(ensemble.prompts_in_slice(both, 2)) == 1


def test_the_weights_of_the_whole_are_the_largest_and_the_accuracy_of_those_that_count():
    ensemble = GeneralistEnsemble([_Named("a"), _Named("b")], channels=2)
    ensemble.use_weights([GeneralistWeights((0.5, 0.0), ((0.9, 0.1), NEVER)), weights(0.0, 0.25)])
    assert ensemble.weights.weight == (0.5, 0.25)
    assert ensemble.weights.disagreement[0] == pytest.approx((0.9, 0.1))


def test_members_of_one_name_are_refused():
    with pytest.raises(ValueError, match="each of another name"):
        GeneralistEnsemble([_Named("a"), _Named("a")], channels=1)
    with pytest.raises(ValueError, match="needs 2 weights, got 1"):
        GeneralistEnsemble([_Named("a"), _Named("b")], channels=1).use_weights([weights(0.5)])


class _Named(Generalist):
    def __init__(self, name: str) -> None:
        self.name = name

    def predict_case(self, case: CaseInput) -> CaseResult:
        return CaseResult(CasePrediction.empty((1, *case.image.shape[1:])), PromptCounts.none(1), {})


def test_components_are_found_once_per_case(tmp_path, monkeypatch):
    calls = []
    from nnunet_semisam.generalists import sam_generalist

    original = sam_generalist.find_components
    monkeypatch.setattr(sam_generalist, "find_components", lambda *args: calls.append(args) or original(*args))
    member = generalist("nano", tmp_path)
    result = member.predict_case(case())
    member.prompts_in_slice(result, 2)
    assert len(calls) == 1
    assert [component.image for component in result.components] == [1, 2, 3]


def test_a_filter_chooses_what_is_prompted(tmp_path):
    from dataclasses import replace

    member = generalist("nano", tmp_path)
    middle = replace(member.parts, component_filter=lambda components: [c for c in components if c.image == 2])
    member.parts = middle
    result = member.predict_case(case())
    assert result.counts.prompts == (1,)
    assert not result.prediction.predicted[:, [0, 1, 3, 4]].any()


def test_nothing_of_a_prediction_needs_gradients(tmp_path):
    class Learning(ThresholdSAM):
        def decode(self, embedding, prompts):
            assert not torch.is_grad_enabled()
            return super().decode(embedding, prompts)

    for name in CASES:
        generalist("nano", tmp_path, Learning()).predict_case(case(name))


def test_voxels_on_which_the_prompts_disagree_are_left_to_the_specialist(tmp_path):
    from dataclasses import replace

    member = generalist("nano", tmp_path)
    before = member.predict_case(case()).prediction
    least = float(np.median(before.reliability[before.predicted]))
    member.parts = replace(member.parts, rejection=replace(member.parts.rejection, rectify_below=least))
    after = member.predict_case(case()).prediction
    assert np.array_equal(after.predicted, before.predicted & (before.reliability >= least))
    assert 0 < after.predicted.sum() < before.predicted.sum()
    assert np.array_equal(after.probs, before.probs)
