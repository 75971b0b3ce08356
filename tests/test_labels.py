"""What output channels mean, in tensors and arrays."""

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_semisam.labels import Labels


def test_classes_of_a_label_manager():
    manager = LabelManager({"background": 0, "RV": 1, "MYO": 2, "ignore": 3}, None)
    labels = Labels.from_label_manager(manager)
    assert (labels.channels, labels.prompt_labels, labels.names) == (2, [1, 2], ["1", "2"])
    assert labels.class_names == ["RV", "MYO"]
    probs = np.array([[0.2, 0.5], [0.5, 0.3], [0.3, 0.2]], dtype=np.float32)  # background, RV, MYO; two voxels
    assert labels.label_map(labels.foreground(probs)).tolist() == [1, 0]
    assert labels.members(np.array([0, 1, 2, 1]), 0).tolist() == [False, True, False, True]


def test_classes_that_sum_to_more_than_one_leave_nothing_to_the_background():
    labels = Labels.from_label_manager(LabelManager({"background": 0, "RV": 1, "MYO": 2}, None))
    assert labels.label_map(np.array([[0.4], [0.9]], dtype=np.float32)).tolist() == [2]


def test_regions_of_a_label_manager_follow_its_class_order():
    names = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    labels = Labels.from_label_manager(LabelManager(names, [1, 2, 3]))
    assert labels.has_regions
    assert labels.regions == ((1, 2, 3), (2, 3), (3,))
    assert labels.prompt_labels == [0, 1, 2]
    assert labels.names == ["1+2+3", "2+3", "3"]
    assert labels.class_names == ["whole", "core", "enhancing"]
    probs = np.array([[0.9, 0.9, 0.9], [0.1, 0.8, 0.8], [0.1, 0.2, 0.7]], dtype=np.float32)
    label = labels.label_map(labels.foreground(probs))
    assert label.tolist() == [1, 2, 3]
    assert label.dtype == np.int16
    assert labels.members(label, 1).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("labels", "counts"),
    [(Labels.of_classes(3), (2, 3, 1)), (Labels.of_regions(3), (3, 3, 0))],
    ids=["classes", "regions"],
)
def test_channels_of_foreground_and_of_the_network(labels, counts):
    assert (labels.channels, labels.heads, labels.first_foreground) == counts


def test_heads_of_a_label_manager_are_those_of_its_network():
    classes = LabelManager({"background": 0, "RV": 1, "MYO": 2, "ignore": 3}, None)
    regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [1, 2])
    for manager in (classes, regions):
        assert Labels.from_label_manager(manager).heads == manager.num_segmentation_heads


def test_probabilities_are_softmax_or_sigmoid_in_float32():
    logits = torch.tensor([0.0, 1.0]).view(1, 2, 1).half()
    shares = Labels.of_classes(2).probabilities(logits)
    assert shares.flatten().tolist() == pytest.approx([0.268941, 0.731059], abs=1e-5)
    assert Labels.of_regions(2).probabilities(logits).flatten().tolist() == pytest.approx([0.5, 0.731059], abs=1e-5)
    assert shares.dtype == torch.float32


def test_hard_labels_are_one_hot_or_thresholded():
    probs = torch.tensor([[0.2, 0.5], [0.5, 0.1], [0.3, 0.4]]).view(1, 3, 2)
    assert Labels.of_classes(3).hard(probs).tolist() == [[[0, 1], [1, 0], [0, 0]]]
    regions = torch.tensor([[0.6, 0.5], [0.9, 0.1]]).view(1, 2, 2)
    assert Labels.of_regions(2).hard(regions).tolist() == [[[1, 0], [1, 0]]]
    assert Labels.of_regions(2).hard(regions.half()).dtype == torch.float16


def test_certainty_is_the_winner_or_that_of_the_least_certain_region():
    probs = torch.tensor([[0.2, 0.5], [0.5, 0.1], [0.3, 0.4]]).view(1, 3, 2)
    assert Labels.of_classes(3).certainty(probs).flatten().tolist() == pytest.approx([0.5, 0.5])
    regions = torch.tensor([[0.9, 0.5], [0.2, 0.1]]).view(1, 2, 2)
    assert Labels.of_regions(2).certainty(regions).flatten().tolist() == pytest.approx([0.8, 0.5])


def test_nested_regions_give_the_innermost_label():
    labels = Labels.of_regions(2)
    assert labels.regions == ((1, 2), (2,))
    assert labels.label_map(np.array([[0.9, 0.8, 0.1], [0.8, 0.2, 0.2]])).tolist() == [2, 1, 0]
