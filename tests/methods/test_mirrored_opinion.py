"""Two predictions of a patch, and the confidence in what both say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import UnlabeledTerm
from nnunet_semisam.methods.parts.mirrored_opinion import (
    SMOOTHING,
    alikeness,
    dice_of_opinions,
    predict_twice,
)

CLASSES = Labels.of_classes(3)


def one_hot(label_map: np.ndarray, heads: int = 3) -> torch.Tensor:
    """Return certain probabilities ``(1, K, Y, X)`` of a label map."""
    return torch.from_numpy(np.stack([label_map == k for k in range(heads)]).astype(np.float32))[None]


def square(label: int, rows: slice) -> np.ndarray:
    label_map = np.zeros((100, 100), int)
    label_map[rows, :50] = label
    return label_map


def test_the_second_prediction_is_of_the_mirrored_patch_and_comes_back_in_its_axes():
    patches = torch.arange(2 * 1 * 4 * 6, dtype=torch.float32).view(2, 1, 4, 6)
    seen = []

    def predict(images):
        seen.append(images)
        return images * 2

    first, second = predict_twice(predict, patches)
    assert torch.equal(seen[1], torch.from_numpy(patches.numpy()[:, :, ::-1, ::-1].copy()))
    assert torch.equal(first, second)
    assert torch.equal(second, 2 * patches)


def test_depth_is_not_mirrored():
    patches = torch.rand(1, 1, 3, 4, 4)
    seen = []
    predict_twice(lambda images: seen.append(images) or images, patches)
    assert torch.equal(seen[1][:, :, 0], patches[:, :, 0].flip((-2, -1)))


def test_dice_of_opinions_is_that_of_each_class_in_each_patch():
    first, second = one_hot(square(1, slice(0, 40))), one_hot(square(1, slice(20, 60)))
    smooth = SMOOTHING * 100 * 100
    expected = (2 * 20 * 50 + smooth) / (2 * 40 * 50 + smooth)
    found = dice_of_opinions(torch.cat([first, first]), torch.cat([second, first]), CLASSES)
    assert found[0].tolist() == pytest.approx([expected, 1.0])  # neither shows class 2: no dispute
    assert found[1].tolist() == pytest.approx([1.0, 1.0])


def test_a_few_voxels_in_one_of_two_predictions_are_no_dispute():
    speck = np.zeros((100, 100), int)
    speck[0, :2] = 1
    nothing, large = np.zeros((100, 100), int), square(1, slice(0, 40))
    few = dice_of_opinions(one_hot(speck), one_hot(nothing), CLASSES)[0, 0]
    many = dice_of_opinions(one_hot(large), one_hot(nothing), CLASSES)[0, 0]
    assert few > 0.7
    assert many < 0.01


def weighed(first, second, labels=CLASSES, weights=None):
    """Return the confidence of every voxel after the gate, ``(B, 1, *S)``, where the method is sure of all."""
    opinions = alikeness(first, second, labels)
    ones = torch.ones_like(first[:, :1])
    term = UnlabeledTerm(ones, (first + second) / 2, ones, opinions=opinions)
    weights = torch.ones(labels.heads) if weights is None else torch.tensor(weights)
    return ClassGate(GateSettings(), labels).weighed_by_opinions(term, weights).confidence


def test_a_patch_with_a_class_that_one_view_misses_is_not_learned():
    label_map = square(1, slice(0, 40))
    both = label_map.copy()
    both[60:, 50:] = 2
    assert weighed(one_hot(both), one_hot(label_map)).max() < 1e-4


def test_an_inactive_class_on_which_opinions_differ_is_no_reason_to_learn_less_of_the_others():
    """The gate merges it into the background, where it does not matter what else it might be."""
    label_map = square(1, slice(0, 40))
    both = label_map.copy()
    both[60:, 50:] = 2
    found = weighed(one_hot(both), one_hot(label_map), weights=[1.0, 1.0, 0.1])
    assert found.min() == found.max() == 1.0


def test_a_region_of_low_weight_is_learned_and_its_opinions_count():
    label_map = square(1, slice(0, 40))
    first = torch.cat([one_hot(label_map)[:, 1:2], one_hot(square(2, slice(60, 90)))[:, 2:3]], dim=1)
    second = torch.cat([first[:, :1], torch.zeros_like(first[:, 1:])], dim=1)
    regions = Labels.of_regions(2)
    assert weighed(first, second, regions, [1.0, 0.4]).max() < 1e-4
    assert weighed(first, second, regions, [1.0, 0.0]).min() == 1.0


def test_confidence_is_the_lowest_squared_dice_of_the_classes():
    first, second = square(1, slice(0, 40)), square(1, slice(20, 60))
    first[:50, 50:] = second[10:60, 50:] = 2
    dice = dice_of_opinions(one_hot(first), one_hot(second), CLASSES)[0]
    confidence = weighed(one_hot(first), one_hot(second))
    assert dice[0] < dice[1] < 0.9
    assert confidence.shape == (1, 1, 100, 100)
    assert confidence.flatten().tolist() == pytest.approx([float(dice[0] ** 2)] * 10000)


def test_no_class_counts_more_than_the_background_around_it():
    """What was wrong before: a class on which both agreed had weight 1, and all background that of the other class."""
    first = square(1, slice(0, 40))
    first[60:, 50:] = 2
    second = first.copy()
    second[80:, 50:] = 0
    confidence = weighed(one_hot(first), one_hot(second))
    assert 0.1 < confidence.min() == confidence.max() < 0.9


def test_the_dispute_of_one_patch_leaves_the_others_alone():
    first = torch.cat([one_hot(square(1, slice(0, 40))), one_hot(square(2, slice(0, 40)))])
    second = torch.cat([one_hot(square(0, slice(0, 40))), one_hot(square(2, slice(0, 40)))])
    confidence = weighed(first, second)
    assert confidence[0].max() < 1e-4
    assert confidence[1].min() == 1.0


def test_regions_have_the_lowest_confidence_of_all():
    labels = Labels.of_regions(2)
    first = torch.zeros(1, 2, 100, 100)
    first[:, 0, :40] = 0.9
    first[:, 1, :20] = 0.9
    second = first.clone()
    second[:, 1] = 0.0
    second[:, 1, 10:30] = 0.9
    dice = dice_of_opinions(first, second, labels)[0]
    confidence = weighed(first, second, labels)
    assert dice[0] == 1.0
    assert dice[1].item() == pytest.approx((2 * 10 * 100 + 5) / (2 * 20 * 100 + 5))
    assert confidence.shape == (1, 1, 100, 100)
    assert confidence.flatten().tolist() == pytest.approx([float(dice[1] ** 2)] * 10000)
