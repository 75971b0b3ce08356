"""Masks of a SAM: merged where windows overlap, rejected where they are out of proportion."""

import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM

from nnunet_semisam.generalists.prediction import Prompting, RejectionSettings, predict_components
from nnunet_semisam.prompts import PROMPTS, REFINEMENTS, PromptRefinement
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.sam.base import MaskPrediction

BLOCK = (slice(10, 20), slice(30, 44))


def one_block(value: float = 1.0) -> torch.Tensor:
    image = torch.zeros(1, 1, 40, 60)
    image[(0, 0, *BLOCK)] = value
    return image


def predict(backend, probs, image, strategy="box", chunk=8, refinement=None, **rejection):
    prompting = Prompting(
        strategy=PROMPTS.get(strategy)(),
        refinement=refinement or REFINEMENTS.get("jitter")(),
        labels=list(range(1, probs.shape[1] + 1)),
        rejection=RejectionSettings(**rejection),
        chunk=chunk,
    )
    components = find_components(probs, overlapping=False)
    return predict_components(backend, backend.encode(image), components, prompting)


class Constant(ThresholdSAM):
    """Predicts the same logit everywhere within the image."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def decode(self, embedding, prompts) -> MaskPrediction:
        shape = (len(prompts), *embedding.image_shape)
        return MaskPrediction(torch.full(shape, self.logit), torch.ones(len(prompts)))


@pytest.mark.parametrize(("logit", "empty"), [(-10.0, 1), (10.0, 0), (float("nan"), 1)])
def test_empty_flooding_and_undefined_masks_are_rejected(logit, empty):
    prediction, counts = predict(Constant(logit), one_block(), one_block())
    assert (counts.prompts, counts.rejected, counts.empty) == ((1,), (1,), (empty,))
    assert prediction.rejected[(0, 0, *BLOCK)].all()
    assert not prediction.predicted.any()
    assert not prediction.probs.any()
    assert np.isfinite(prediction.reliability).all()


@pytest.mark.parametrize(("rows", "rejected"), [(3, 0), (2, 1)])
def test_a_mask_below_a_quarter_of_the_area_is_rejected(rows, rejected):
    image = torch.zeros(1, 1, 40, 60)
    image[0, 0, 12 : 12 + rows, 30:44] = 1.0  # of 10 rows: 3 are more than a quarter, 2 are less
    _, counts = predict(ThresholdSAM(), one_block(), image)
    assert counts.rejected == (rejected,)


def test_a_mask_counts_within_the_window_only():
    image = torch.ones(1, 1, 40, 60)
    probs = one_block()
    prediction, counts = predict(ThresholdSAM(), probs, image, "box")  # the box is one voxel larger than the block
    assert counts.rejected == (0,)
    window = find_components(probs, overlapping=False)[0].window
    inside = np.zeros((40, 60), dtype=bool)
    inside[window] = True
    assert np.array_equal(prediction.predicted[0, 0], inside)
    assert not prediction.probs[0, 0][~inside].any()


def test_voxels_that_change_with_the_variant_of_the_prompt_are_less_reliable():
    prediction, _ = predict(ThresholdSAM(quality=1.0), one_block(), torch.ones(1, 1, 40, 60))
    assert prediction.reliability[0, 0, 15, 37] == pytest.approx(1.0, abs=1e-3), "inside: three variants say yes"
    # row 9 is in the box (margin of 1) and in the generous one, not in the strict one: masks 1, 1, 0
    assert prediction.reliability[0, 0, 9, 37] == pytest.approx(1 - 4 * (2 / 9), abs=1e-3)
    assert prediction.probs[0, 0, 9, 37] == pytest.approx(2 / 3, abs=1e-3)


def test_the_models_own_quality_halves_reliability_at_most():
    prediction, _ = predict(ThresholdSAM(quality=0.0), one_block(), one_block())
    assert prediction.reliability[0, 0, 15, 37] == pytest.approx(0.5, abs=1e-3)


def test_two_components_of_one_class_are_both_kept():
    probs = torch.zeros(1, 1, 40, 60)
    probs[..., 10:20, 10:20] = 1.0
    probs[..., 10:20, 22:34] = 1.0  # windows overlap
    prediction, counts = predict(ThresholdSAM(), probs, probs)
    assert counts.prompts == (2,)
    assert np.array_equal(prediction.probs[0, 0] > 0.5, probs[0, 0].numpy() > 0.5)


def test_images_are_told_apart_when_only_some_have_prompts():
    image = torch.cat([torch.zeros(2, 1, 40, 60), one_block(), one_block()])
    probs = torch.cat([torch.zeros(3, 1, 40, 60), one_block()])
    prediction, _ = predict(ThresholdSAM(), probs, image, chunk=1)
    assert not prediction.predicted[:3].any()
    assert np.array_equal(prediction.probs[3, 0] > 0.5, one_block()[0, 0].numpy() > 0.5)


def test_a_strategy_that_drops_a_component_is_refused():
    class Nothing(PROMPTS.get("box")):
        def __call__(self, components, image_shape, labels):
            return super().__call__([], image_shape, labels)

    backend, probs = ThresholdSAM(), one_block()
    prompting = Prompting(Nothing(), REFINEMENTS.get("none")(), [1], RejectionSettings(), 8)
    components = find_components(probs, overlapping=False)
    with pytest.raises(ValueError, match="one prompt per component"):
        predict_components(backend, backend.encode(probs), components, prompting)


def test_a_refinement_that_drops_a_prompt_is_refused():
    class First(PromptRefinement):
        steps = 1

        def __call__(self, prompts, image_shape, step, previous):
            return prompts.select(slice(1))

    probs = torch.zeros(1, 1, 40, 60)
    probs[(0, 0, *BLOCK)] = 0.9
    probs[0, 0, 30:36, 2:12] = 0.9
    with pytest.raises(ValueError, match="as many prompts as it got, in their order: got 1 for 2"):
        predict(ThresholdSAM(), probs, one_block(), refinement=First())


def test_without_refinement_prompts_are_decoded_once_and_reliability_is_the_models_own():
    class Counting(ThresholdSAM):
        decoded = 0

        def decode(self, embedding, prompts):
            self.decoded += 1
            return super().decode(embedding, prompts)

    backend = Counting(quality=0.5)
    prediction, _ = predict(backend, one_block(), torch.ones(1, 1, 40, 60), refinement=REFINEMENTS.get("none")())
    assert backend.decoded == 1
    window = prediction.predicted[0, 0]
    assert prediction.reliability[0, 0][window] == pytest.approx(0.75)


def test_a_second_pass_sees_the_masks_of_the_first_and_counts_alone():
    class SecondPass(PromptRefinement):
        steps, averages = 2, False

        def __call__(self, prompts, image_shape, step, previous):
            seen.append(previous)
            return prompts

    seen: list = []
    refinement = SecondPass()
    prediction, _ = predict(ThresholdSAM(), one_block(), one_block(), refinement=refinement)
    assert seen[0] is None
    assert isinstance(seen[1], MaskPrediction)
    assert np.array_equal(prediction.probs[0, 0] > 0.5, one_block()[0, 0].numpy() > 0.5)


def test_settings_decide_which_masks_are_rejected():
    image = torch.zeros(1, 1, 40, 60)
    image[0, 0, 12:14, 30:44] = 1.0  # 2 of 10 rows
    _, counts = predict(ThresholdSAM(), one_block(), image, factor=6.0)
    assert counts.rejected == (0,)
