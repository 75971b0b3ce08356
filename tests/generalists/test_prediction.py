"""SAM's answers: merged where windows overlap, discarded where they collapse."""

import numpy as np
import pytest
import torch
from tiny_world import ThresholdSAM

from nnunet_semisam.generalists.prediction import ask
from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.sam.base import MaskPrediction

BLOCK = (slice(10, 20), slice(30, 44))


def one_block(value: float = 1.0) -> torch.Tensor:
    image = torch.zeros(1, 1, 40, 60)
    image[(0, 0, *BLOCK)] = value
    return image


def answer(backend, probs, image, strategy="box", chunk=8):
    prompts = PROMPTS.get(strategy)(probs, list(range(1, probs.shape[1] + 1)))
    return ask(backend, backend.encode(image), prompts, find_components(probs), probs.shape[1], chunk)


class Constant(ThresholdSAM):
    """Gives the same logit everywhere within the image."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def decode(self, embedding, prompts) -> MaskPrediction:
        shape = (len(prompts), *embedding.image_shape)
        return MaskPrediction(torch.full(shape, self.logit), torch.ones(len(prompts)))


@pytest.mark.parametrize(("logit", "empty"), [(-10.0, 1), (10.0, 0), (float("nan"), 1)])
def test_empty_flooding_and_undefined_masks_collapse(logit, empty):
    opinion, counts = answer(Constant(logit), one_block(), one_block())
    assert (counts.prompts, counts.collapsed, counts.empty) == ((1,), (1,), (empty,))
    assert opinion.collapsed[(0, 0, *BLOCK)].all()
    assert not opinion.asked.any()
    assert not opinion.probs.any()
    assert np.isfinite(opinion.reliability).all()


@pytest.mark.parametrize(("rows", "collapsed"), [(3, 0), (2, 1)])
def test_an_answer_below_a_quarter_of_the_area_collapses(rows, collapsed):
    image = torch.zeros(1, 1, 40, 60)
    image[0, 0, 12 : 12 + rows, 30:44] = 1.0  # of 10 rows: 3 are more than a quarter, 2 are less
    _, counts = answer(ThresholdSAM(), one_block(), image)
    assert counts.collapsed == (collapsed,)


def test_an_answer_counts_within_the_window_only():
    image = torch.ones(1, 1, 40, 60)
    probs = one_block()
    opinion, counts = answer(ThresholdSAM(), probs, image, "box")  # the box is one voxel larger than the block
    assert counts.collapsed == (0,)
    window = find_components(probs)[0].window
    inside = np.zeros((40, 60), dtype=bool)
    inside[window] = True
    assert np.array_equal(opinion.asked[0, 0], inside)
    assert not opinion.probs[0, 0][~inside].any()


def test_voxels_that_change_with_the_reading_of_the_prompt_are_less_reliable():
    opinion, _ = answer(ThresholdSAM(quality=1.0), one_block(), torch.ones(1, 1, 40, 60))
    assert opinion.reliability[0, 0, 15, 37] == pytest.approx(1.0, abs=1e-3), "inside: three readings say yes"
    # row 9 is in the box (margin of 1) and in the generous one, not in the strict one: answers 1, 1, 0
    assert opinion.reliability[0, 0, 9, 37] == pytest.approx(1 - 4 * (2 / 9), abs=1e-3)
    assert opinion.probs[0, 0, 9, 37] == pytest.approx(2 / 3, abs=1e-3)


def test_the_models_own_quality_halves_reliability_at_most():
    opinion, _ = answer(ThresholdSAM(quality=0.0), one_block(), one_block())
    assert opinion.reliability[0, 0, 15, 37] == pytest.approx(0.5, abs=1e-3)


def test_two_components_of_one_class_are_both_kept():
    probs = torch.zeros(1, 1, 40, 60)
    probs[..., 10:20, 10:20] = 1.0
    probs[..., 10:20, 22:34] = 1.0  # windows overlap
    opinion, counts = answer(ThresholdSAM(), probs, probs)
    assert counts.prompts == (2,)
    assert np.array_equal(opinion.probs[0, 0] > 0.5, probs[0, 0].numpy() > 0.5)


def test_images_are_told_apart_when_only_some_have_prompts():
    image = torch.cat([torch.zeros(2, 1, 40, 60), one_block(), one_block()])
    probs = torch.cat([torch.zeros(3, 1, 40, 60), one_block()])
    opinion, _ = answer(ThresholdSAM(), probs, image, chunk=1)
    assert not opinion.asked[:3].any()
    assert np.array_equal(opinion.probs[3, 0] > 0.5, one_block()[0, 0].numpy() > 0.5)


def test_prompts_that_do_not_match_the_components_are_refused():
    probs = one_block()
    prompts = PROMPTS.get("box")(probs, [1])
    backend = ThresholdSAM()
    with pytest.raises(ValueError, match="one prompt per component"):
        ask(backend, backend.encode(probs), prompts, [], 1, 8)
