"""Entropy and disagreement by hand calculation."""

import math

import pytest
import torch

from nnunet_semisam.annotation.uncertainty import combine, entropy
from nnunet_semisam.labels import Labels

CLASSES, REGIONS = Labels.of_classes(3), Labels.of_regions(2)


def voxel(*probs):
    return torch.tensor(probs)[:, None]


def test_entropy_is_0_for_one_class_and_1_for_all_alike():
    assert entropy(voxel(1.0, 0.0, 0.0), CLASSES).item() == 0
    assert entropy(voxel(1 / 3, 1 / 3, 1 / 3), CLASSES).item() == pytest.approx(1.0)
    assert entropy(voxel(0.5, 0.5, 0.0), CLASSES).item() == pytest.approx(math.log(2) / math.log(3))


def test_entropy_of_regions_is_the_mean_over_regions():
    assert entropy(voxel(0.5, 1.0), REGIONS).item() == pytest.approx(0.5)
    assert entropy(voxel(0.5, 0.5), REGIONS).item() == pytest.approx(1.0)


def test_networks_that_are_sure_and_contradict_each_other_disagree_wholly():
    found = combine([voxel(1.0, 0.0, 0.0), voxel(0.0, 1.0, 0.0), voxel(0.0, 0.0, 1.0)], CLASSES)
    assert found.entropy.item() == pytest.approx(1.0)
    assert found.disagreement.item() == pytest.approx(1.0)
    assert found.predictions == 3


def test_networks_that_are_all_unsure_alike_do_not_disagree():
    found = combine([voxel(0.5, 0.5, 0.0)] * 2, CLASSES)
    assert found.entropy.item() == pytest.approx(math.log(2) / math.log(3))
    assert found.disagreement.item() == pytest.approx(0.0, abs=1e-6)


def test_predictions_are_left_as_they_are_and_one_at_least_is_needed():
    first = voxel(0.2, 0.3, 0.5)
    combine([first, voxel(0.1, 0.8, 0.1)], CLASSES)
    assert first.flatten().tolist() == pytest.approx([0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match="no prediction"):
        combine([], CLASSES)
