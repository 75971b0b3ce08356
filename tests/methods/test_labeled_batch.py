import torch

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import LabeledBatch


def batch(target: torch.Tensor) -> LabeledBatch:
    return LabeledBatch(torch.zeros(len(target), 1, *target.shape[2:]), (target, target[..., ::2]), 1)


def test_labels_become_one_hot_classes():
    one_hot, valid = batch(torch.tensor([0, 1, 2, 1], dtype=torch.int16).view(1, 1, 2, 2)).one_hot(Labels.of_classes(3))
    assert one_hot[0].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    assert valid.eq(1).all()
    assert (one_hot.shape, valid.shape) == ((1, 3, 2, 2), (1, 1, 2, 2))


def test_ignore_label_belongs_to_no_class_and_is_not_valid():
    one_hot, valid = batch(torch.tensor([0, 1, 2, 2], dtype=torch.float32).view(1, 1, 2, 2)).one_hot(
        Labels.of_classes(2)
    )
    assert one_hot[0].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert valid.flatten().tolist() == [1, 1, 0, 0]


def test_regions_may_overlap():
    target = torch.tensor([[True, True, False], [False, True, False]]).view(1, 2, 1, 3)
    one_hot, valid = batch(target).one_hot(Labels.of_regions(2))
    assert one_hot[0].flatten(1).tolist() == [[1, 1, 0], [0, 1, 0]]
    assert valid.flatten().tolist() == [1, 1, 1]


def test_ignore_label_of_regions_is_their_last_channel():
    target = torch.tensor([[True, True, False], [False, True, False], [False, False, True]]).view(1, 3, 1, 3)
    one_hot, valid = batch(target).one_hot(Labels.of_regions(2))
    assert one_hot.shape == (1, 2, 1, 3)
    assert valid.flatten().tolist() == [1, 1, 0]


def test_one_region_alone_with_and_without_ignore_label():
    one_hot, valid = batch(torch.tensor([True, False]).view(1, 1, 1, 2)).one_hot(Labels.of_regions(1))
    assert (one_hot.flatten().tolist(), valid.flatten().tolist()) == ([1, 0], [1, 1])
    one_hot, valid = batch(torch.tensor([[True, False], [False, True]]).view(1, 2, 1, 2)).one_hot(Labels.of_regions(1))
    assert (one_hot.flatten().tolist(), valid.flatten().tolist()) == ([1, 0], [1, 0])


def test_target_is_the_finest_level():
    labeled = batch(torch.arange(4.0).view(1, 1, 2, 2))
    assert labeled.target is labeled.levels[0]
    assert labeled.levels[1].shape == (1, 1, 2, 1)
