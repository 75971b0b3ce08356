import pytest
import torch

from nnunet_semisam.gate.area_prior import AreaPrior
from nnunet_semisam.labels import Labels

MEMORY = 0.98


def one_hot(counts: list[int]) -> torch.Tensor:
    """A row of voxels with so many of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.eye(len(counts))[labels].T.reshape(1, len(counts), 1, -1)


def prior(labeled: list[int], unlabeled: list[int], factor: float = 2.0) -> AreaPrior:
    area = AreaPrior(Labels.of_classes(len(labeled)), factor, MEMORY)
    area.count("labeled", one_hot(labeled))
    area.count("unlabeled", one_hot(unlabeled))
    return area


def test_shares_by_hand():
    area = prior([6, 3, 1], [50, 25, 25])
    assert area.shares("labeled").tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert area.shares("unlabeled").tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_shares_are_of_pooled_counts_that_fade():
    area = prior([8, 2], [1, 1])
    area.count("labeled", one_hot([0, 10]))
    assert area.shares("labeled")[1].item() == pytest.approx((MEMORY * 2 + 10) / (MEMORY * 10 + 10))


def test_within_the_bounds_every_class_has_full_weight():
    for taken in ([70, 20, 10], [80, 15, 5], [40, 40, 20]):  # half to twice the labeled shares of classes 1 and 2
        assert prior([70, 20, 10], taken).class_weights().tolist() == pytest.approx([1, 1, 1])


def test_class_that_floods_the_image_loses_weight():
    # class 2 takes four times its labeled share, twice what it may: weight 1/2, and the background follows
    assert prior([70, 20, 10], [40, 20, 40]).class_weights().tolist() == pytest.approx([0.5, 1.0, 0.5])


def test_class_that_vanishes_loses_weight():
    # class 1 takes a quarter of its labeled share, half of what it must
    assert prior([60, 20, 20], [75, 5, 20]).class_weights().tolist() == pytest.approx([0.5, 0.5, 1.0])
    assert prior([60, 20, 20], [80, 0, 20]).class_weights().tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_class_without_labeled_voxels_may_not_be_taken():
    weights = prior([80, 20, 0], [60, 20, 20]).class_weights()
    assert weights[2].item() == pytest.approx(0.0, abs=1e-6)
    assert weights[1].item() == pytest.approx(1.0)


def test_before_anything_was_counted_all_have_full_weight():
    area = AreaPrior(Labels.of_classes(3), 2.0, MEMORY)
    assert area.class_weights().tolist() == [1, 1, 1]
    area.count("labeled", one_hot([5, 3, 2]))
    assert area.class_weights().tolist() == [1, 1, 1]


def test_regions_stand_for_themselves():
    area = AreaPrior(Labels.of_regions(2), 2.0, MEMORY)
    whole, part = torch.ones(1, 1, 1, 12), torch.zeros(1, 1, 1, 12)
    part[..., :3] = 1.0
    area.count("labeled", torch.cat([whole, part], dim=1))
    part[..., 1:] = 0.0
    area.count("unlabeled", torch.cat([whole, part], dim=1))
    assert area.shares("labeled").tolist() == [1.0, 0.25]
    assert area.class_weights().tolist() == pytest.approx([1.0, 2 / 3])  # a third of its labeled share


def test_shares_are_of_annotated_voxels():
    """Sparse annotation: nine tenths carry the ignore label, and no class is smaller for it."""
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    valid = torch.zeros(1, 1, 1, 100)
    valid[..., :10] = 1.0
    label = torch.zeros(1, 2, 1, 100)
    label[0, 0, 0, :6], label[0, 1, 0, 6:10] = 1.0, 1.0
    area.count("labeled", label * valid, valid)
    area.count("unlabeled", one_hot([60, 40]))
    assert area.shares("labeled").tolist() == pytest.approx([0.6, 0.4])
    assert area.class_weights().tolist() == pytest.approx([1.0, 1.0])


def test_state_is_restored(tmp_path):
    area, other = prior([6, 3, 1], [2, 1, 7]), AreaPrior(Labels.of_classes(3), 2.0, MEMORY)
    torch.save(area.state_dict(), tmp_path / "area.pth")
    other.load_state_dict(torch.load(tmp_path / "area.pth", weights_only=True))
    for each in (area, other):
        each.count("unlabeled", one_hot([3, 3, 3]))
    assert torch.equal(area.class_weights(), other.class_weights())
    assert area.class_weights().min() < 1
