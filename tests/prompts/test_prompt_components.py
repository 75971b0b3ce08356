"""What is asked about: components, membership of classes and of overlapping regions."""

import numpy as np
import pytest
import torch

from nnunet_semisam.prompts.components import MAX_COMPONENTS, find_components, odds, window_of


def test_odds_exceed_a_half_exactly_where_argmax_chooses_the_class():
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(3 * torch.randn(2, 4, 20, 30, generator=generator), dim=1)
    chosen = torch.nn.functional.one_hot(probs.argmax(dim=1), 4).movedim(-1, 1).bool()
    assert torch.equal(odds(probs[:, 1:]) > 0.5, chosen[:, 1:])


def test_odds_of_a_plurality_class_by_hand():
    probs = torch.tensor([0.4, 0.3]).reshape(1, 2, 1, 1)  # background 0.3
    assert odds(probs).flatten().tolist() == pytest.approx([0.4 / 0.7, 0.3 / 0.7])


def test_regions_are_thresholded_separately():
    probs = torch.tensor([0.9, 0.6, 0.3]).reshape(1, 3, 1, 1)
    assert (odds(probs) > 0.5).flatten().tolist() == [True, True, False]  # the sum of 1.8 gives regions away
    quiet = torch.tensor([0.4, 0.1]).reshape(1, 2, 1, 1)
    assert not (odds(quiet, overlapping=True) > 0.5).any()


def test_nested_regions_are_both_asked_about():
    probs = torch.zeros(1, 2, 40, 40)
    probs[0, 0, 5:35, 5:35] = 1.0
    probs[0, 1, 15:25, 15:25] = 1.0
    assert [(c.channel, c.voxels) for c in find_components(probs)] == [(0, 900), (1, 100)]


@pytest.mark.parametrize(("side", "found"), [(3, 0), (4, 1)])
def test_drops_tiny_components(side, found):
    probs = torch.zeros(1, 1, 20, 20)
    probs[..., 2 : 2 + side, 3 : 3 + side] = 1.0  # 9 or 16 voxels; at least 10 are needed
    assert len(find_components(probs)) == found


def test_keeps_only_the_largest_of_very_many_components():
    probs = torch.zeros(1, 1, 100, 100)
    for i in range(12):
        probs[..., 8 * i : 8 * i + 5, 0 : 4 + i] = 1.0
    sizes = [c.voxels for c in find_components(probs)]
    assert sizes == [5 * (4 + i) for i in range(11, 11 - MAX_COMPONENTS, -1)]


def test_window_is_a_quarter_larger_and_stays_in_the_image():
    assert window_of(np.array([[0, 20], [30, 34]]), (50, 35)) == (slice(0, 25), slice(28, 35))


def test_refuses_probabilities_of_other_dimensions():
    with pytest.raises(ValueError, match="spatial axes"):
        find_components(torch.zeros(1, 20, 20))
