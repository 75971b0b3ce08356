"""What a SAM is prompted with: components, membership of classes and of overlapping regions."""

import numpy as np
import pytest
import torch

from nnunet_semisam.prompts.components import ComponentSettings, find_components, odds, window_of


def test_odds_exceed_a_half_exactly_where_argmax_chooses_the_class():
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(3 * torch.randn(2, 4, 20, 30, generator=generator), dim=1)
    chosen = torch.nn.functional.one_hot(probs.argmax(dim=1), 4).movedim(-1, 1).bool()
    assert torch.equal(odds(probs[:, 1:], overlapping=False) > 0.5, chosen[:, 1:])


def test_odds_of_a_plurality_class_by_hand():
    probs = torch.tensor([0.4, 0.3]).reshape(1, 2, 1, 1)  # background 0.3
    assert odds(probs, overlapping=False).flatten().tolist() == pytest.approx([0.4 / 0.7, 0.3 / 0.7])


def test_regions_are_thresholded_separately():
    probs = torch.tensor([0.9, 0.6, 0.3]).reshape(1, 3, 1, 1)
    assert (odds(probs, overlapping=True) > 0.5).flatten().tolist() == [True, True, False]
    quiet = torch.tensor([0.4, 0.1]).reshape(1, 2, 1, 1)
    assert not (odds(quiet, overlapping=True) > 0.5).any()


def test_nested_regions_both_have_components():
    probs = torch.zeros(1, 2, 40, 40)
    probs[0, 0, 5:35, 5:35] = 1.0
    probs[0, 1, 15:25, 15:25] = 1.0
    assert [(c.channel, c.voxels) for c in find_components(probs, overlapping=True)] == [(0, 900), (1, 100)]


@pytest.mark.parametrize(("side", "found"), [(3, 0), (4, 1)])
def test_drops_tiny_components(side, found):
    probs = torch.zeros(1, 1, 20, 20)
    probs[..., 2 : 2 + side, 3 : 3 + side] = 1.0  # 9 or 16 voxels; at least 10 are needed
    assert len(find_components(probs, overlapping=False)) == found


def test_keeps_only_the_largest_of_very_many_components():
    probs = torch.zeros(1, 1, 100, 100)
    for i in range(12):
        probs[..., 8 * i : 8 * i + 5, 0 : 4 + i] = 1.0
    sizes = [c.voxels for c in find_components(probs, overlapping=False)]
    assert sizes == [5 * (4 + i) for i in range(11, 11 - ComponentSettings().max_components, -1)]


def test_window_is_a_quarter_larger_and_stays_in_the_image():
    assert window_of(np.array([[0, 20], [30, 34]]), (50, 35)) == (slice(0, 25), slice(28, 35))


def test_refuses_probabilities_of_other_dimensions():
    with pytest.raises(ValueError, match="spatial axes"):
        find_components(torch.zeros(1, 20, 20), overlapping=False)


def test_groups_of_images_give_the_same_components_and_know_their_image():
    probs = torch.zeros(5, 1, 20, 20)
    for image in (1, 2, 4):
        probs[image, :, 3 : 8 + image, 4:12] = 0.9
    together, apart = (find_components(probs, False, images_at_once=size) for size in (None, 2))
    assert [c.image for c in together] == [c.image for c in apart] == [1, 2, 4]
    for one, other in zip(together, apart, strict=True):
        assert np.array_equal(one.inside, other.inside)
        assert np.array_equal(one.odds, other.odds)


def test_settings_decide_what_is_too_small_and_how_wide_a_window_is():
    probs = torch.zeros(1, 1, 20, 20)
    probs[..., 5:8, 5:8] = 1.0
    settings = ComponentSettings(min_voxels_2d=9, window_margin=1.0)
    (component,) = find_components(probs, False, settings)
    assert component.window == (slice(2, 11), slice(2, 11))
