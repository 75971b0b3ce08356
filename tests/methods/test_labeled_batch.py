import torch

from nnunet_semisam.methods import LabeledBatch


def batch(target: torch.Tensor) -> LabeledBatch:
    return LabeledBatch(torch.zeros(len(target), 1, *target.shape[2:]), target, 1)


def test_labels_become_one_hot_classes():
    truth, valid = batch(torch.tensor([0, 1, 2, 1], dtype=torch.int16).view(1, 1, 2, 2)).truth(3)
    assert truth[0].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    assert valid.eq(1).all()
    assert (truth.shape, valid.shape) == ((1, 3, 2, 2), (1, 1, 2, 2))


def test_ignore_label_belongs_to_no_class_and_is_not_valid():
    truth, valid = batch(torch.tensor([0, 1, 2, 2], dtype=torch.float32).view(1, 1, 2, 2)).truth(2)
    assert truth[0].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert valid.flatten().tolist() == [1, 1, 0, 0]


def test_regions_may_overlap():
    target = torch.tensor([[True, True, False], [False, True, False]]).view(1, 2, 1, 3)
    truth, valid = batch(target).truth(2)
    assert truth[0].flatten(1).tolist() == [[1, 1, 0], [0, 1, 0]]
    assert valid.flatten().tolist() == [1, 1, 1]


def test_ignore_label_of_regions_is_their_last_channel():
    target = torch.tensor([[True, True, False], [False, True, False], [False, False, True]]).view(1, 3, 1, 3)
    truth, valid = batch(target).truth(2)
    assert truth.shape == (1, 2, 1, 3)
    assert valid.flatten().tolist() == [1, 1, 0]


def test_one_region_alone_with_and_without_ignore_label():
    truth, valid = batch(torch.tensor([True, False]).view(1, 1, 1, 2)).truth(1)
    assert (truth.flatten().tolist(), valid.flatten().tolist()) == ([1, 0], [1, 1])
    truth, valid = batch(torch.tensor([[True, False], [False, True]]).view(1, 2, 1, 2)).truth(1)
    assert (truth.flatten().tolist(), valid.flatten().tolist()) == ([1, 0], [1, 0])
