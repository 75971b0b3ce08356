import numpy as np
import pytest
import torch

from nnunet_semisam.gate.area_prior import AreaPrior
from nnunet_semisam.labels import Labels

MEMORY = 0.98


def one_hot(*patches: list[int]) -> torch.Tensor:
    """Patches with so many voxels of each class; one is taken twice, so that it is known to vary by nothing."""
    patches = patches if len(patches) > 1 else patches * 2
    rows = [torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)) for counts in patches]
    return torch.stack([torch.eye(len(patches[0]))[row].T.unsqueeze(1) for row in rows])


def prior(labeled: list[int], unlabeled: list[int], factor: float = 2.0) -> AreaPrior:
    area = AreaPrior(Labels.of_classes(len(labeled)), factor, MEMORY)
    area.count("labeled", one_hot(labeled))
    area.count("unlabeled", one_hot(unlabeled))
    return area


def take(area: AreaPrior, labels: torch.Tensor, valid: torch.Tensor) -> None:
    """Give the prior labels of windows that lie in the image, ``(B, K, *S)``, of which ``valid`` is annotated."""
    classes, annotated = (labels * valid).flatten(2).sum(2).double(), valid.flatten(1).sum(1).double()
    area.take_labels(classes, annotated, torch.full_like(annotated, valid[0].numel()), valid[0].numel())


def test_shares_by_hand():
    area = prior([6, 3, 1], [50, 25, 25])
    assert area.shares("labeled").tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert area.shares("unlabeled").tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_shares_of_targets_fade_and_those_of_labels_do_not():
    area = prior([8, 2], [8, 2])
    for name in ("labeled", "unlabeled"):
        area.count(name, one_hot([0, 10]))
    assert area.shares("unlabeled")[1].item() == pytest.approx((MEMORY * 2 + 10) / (MEMORY * 10 + 10))
    assert area.shares("labeled")[1].item() == pytest.approx(12 / 20)


def test_the_standard_error_by_hand():
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    area.count("labeled", one_hot([9, 1], [7, 3]))  # shares 0.1 and 0.3: variance 0.02
    area.count("unlabeled", one_hot([9, 1], [9, 1], [9, 1], [5, 5]))  # variance 0.04
    assert area.counts["labeled"].variance()[1].item() == pytest.approx(0.02)
    assert area.counts["unlabeled"].variance()[1].item() == pytest.approx(0.04)
    # 0.2 +- sqrt(0.02 / 2 + 0.04 / 4): far within bounds
    assert area._standard_error()[1].item() == pytest.approx((0.02 / 2 + 0.04 / 4) ** 0.5)


def rows(count: int, share: float, rng: np.random.Generator) -> torch.Tensor:
    """Patches of 1,000 voxels; a tenth of them shows the class, which takes 2 % of these, more or less."""
    shown = rng.random(count) < share
    voxels = torch.from_numpy(shown * np.minimum(20 * rng.lognormal(0, 0.6, count), 1000)).float()
    return torch.stack([1000 - voxels, voxels], dim=1)[:, :, None].expand(-1, -1, 1) / 1000


@pytest.mark.parametrize("batch", [1, 4])
def test_a_perfect_teacher_keeps_a_class_that_few_patches_show(batch):
    """Targets are labels of other patches of the same images. Bounds without an error gave 93 % with one patch."""
    rng, kept = np.random.default_rng(0), []
    for _ in range(12):
        area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
        for _ in range(200):
            area.count("labeled", rows(batch, 0.1, rng))
            area.count("unlabeled", rows(batch, 0.1, rng))
            kept.append(float(area.class_weights()[1]) >= 0.5)
    assert np.mean(kept) > 0.97


def test_a_class_that_half_of_the_patches_showed_and_that_vanished_is_found_out():
    rng, area = np.random.default_rng(0), AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    for step in range(300):
        area.count("labeled", rows(4, 0.5, rng))
        area.count("unlabeled", rows(4, 0.5 if step < 150 else 0.0, rng))
        if step == 149:
            assert area.class_weights()[1] == 1.0
    assert area.class_weights()[1] < 0.5


def test_one_patch_says_nothing():
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    area.count("labeled", one_hot([5, 5])[:1])
    area.count("unlabeled", one_hot([10, 0])[:1])
    assert area.class_weights().tolist() == [1.0, 1.0]


def test_within_the_bounds_every_class_has_full_weight():
    for taken in ([70, 20, 10], [80, 15, 5], [40, 40, 20]):  # half to twice the labeled shares of classes 1 and 2
        assert prior([70, 20, 10], taken).class_weights().tolist() == pytest.approx([1, 1, 1])


def test_class_that_floods_the_image_loses_weight():
    # class 2 takes four times its labeled share, twice what it may: weight 1/2, and the background follows
    assert prior([70, 20, 10], [40, 20, 40]).class_weights().tolist() == pytest.approx([0.5, 1.0, 0.5])


def test_class_that_vanishes_loses_weight():
    # class 1 takes a quarter of its labeled share, half of what it must
    assert prior([60, 20, 20], [75, 5, 20]).class_weights().tolist() == pytest.approx([0.5, 0.5, 1.0])
    assert prior([60, 20, 20], [80, 0, 20]).class_weights().tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


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
    whole, part = torch.ones(2, 1, 1, 12), torch.zeros(2, 1, 1, 12)
    part[..., :3] = 1.0
    area.count("labeled", torch.cat([whole, part], dim=1))
    part[..., 1:] = 0.0
    area.count("unlabeled", torch.cat([whole, part], dim=1))
    assert area.shares("labeled").tolist() == [1.0, 0.25]
    assert area.class_weights().tolist() == pytest.approx([1.0, 2 / 3])  # a third of its labeled share


def test_shares_are_of_annotated_voxels():
    """Sparse annotation: nine tenths carry the ignore label, and no class is smaller for it."""
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    valid = torch.zeros(2, 1, 1, 100)
    valid[..., :10] = 1.0
    label = torch.zeros(2, 2, 1, 100)
    label[:, 0, 0, :6], label[:, 1, 0, 6:10] = 1.0, 1.0
    take(area, label, valid)
    area.count("unlabeled", one_hot([60, 40]))
    assert area.shares("labeled").tolist() == pytest.approx([0.6, 0.4])
    assert area.class_weights().tolist() == pytest.approx([1.0, 1.0])


def test_scribbles_bound_the_shares_instead_of_telling_them():
    """Half of all scribbled voxels are of a class that takes a tenth: a teacher that is right must not lose weight."""
    valid = torch.zeros(2, 1, 1, 100)
    valid[..., :4] = 1.0
    scribbles = torch.zeros(2, 2, 1, 100)
    scribbles[:, 0, 0, :2], scribbles[:, 1, 0, 2:4] = 1.0, 1.0
    weights = {}
    for fair in (True, False):
        area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
        area.fair = fair
        take(area, scribbles, valid)
        area.count("unlabeled", one_hot([90, 10]))
        weights[fair] = area.class_weights().tolist()
    assert weights[True][1] < 0.5  # the harm: "a class that takes half of the image has shrunk to a tenth"
    assert weights[False] == [1.0, 1.0]


def test_with_scribbles_a_class_that_vanished_still_loses_its_weight():
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    area.fair = False
    valid = torch.ones(2, 1, 1, 100)
    valid[..., 50:] = 0.0
    label = torch.zeros(2, 2, 1, 100)
    label[:, 1, 0, :20], label[:, 0, 0, 20:] = 1.0, 1.0
    take(area, label, valid)
    assert area.shares("labeled").tolist() == pytest.approx([0.3, 0.2])  # of all voxels, 50 of 100 annotated
    area.count("unlabeled", one_hot([100, 0]))
    assert area.class_weights()[1].item() < 0.1


def test_with_scribbles_what_was_not_annotated_may_be_of_any_class():
    area = AreaPrior(Labels.of_classes(2), 1.0, MEMORY)
    area.fair = False
    valid = torch.ones(2, 1, 1, 100)
    valid[..., :60] = 0.0
    take(area, one_hot([90, 10]), valid)  # class 1 takes 10 to 70 voxels
    area.count("unlabeled", one_hot([30, 70]))
    assert area.class_weights()[1].item() == pytest.approx(1.0)
    other = AreaPrior(Labels.of_classes(2), 1.0, MEMORY)
    other.fair = False
    take(other, one_hot([90, 10]), valid)
    other.count("unlabeled", one_hot([0, 100]))
    assert other.class_weights()[1].item() == pytest.approx(0.7)


def test_what_is_outside_of_the_image_is_background_and_labeled_patches_no_longer_count():
    area = AreaPrior(Labels.of_classes(2), 2.0, MEMORY)
    classes = torch.tensor([[6.0, 4.0], [0.0, 0.0], [10.0, 0.0]]).double()  # 10 of 50 voxels annotated, none, 10 of 100
    annotated, inside = torch.tensor([10.0, 0.0, 10.0]).double(), torch.tensor([50.0, 100.0, 100.0]).double()
    area.take_labels(classes, annotated, inside, 100)
    assert area.shares("labeled").tolist() == pytest.approx([0.9, 0.1])  # 20 of 100 + 0 of 100; no labels tell nothing
    area.count("labeled", one_hot([0, 100]))
    assert area.shares("labeled").tolist() == pytest.approx([0.9, 0.1])
    regions = AreaPrior(Labels.of_regions(2), 2.0, MEMORY)
    regions.take_labels(classes, annotated, inside, 100)
    assert regions.shares("labeled").tolist() == pytest.approx([0.65, 0.1])


def test_state_is_restored(tmp_path):
    area, other = prior([6, 3, 1], [2, 1, 7]), AreaPrior(Labels.of_classes(3), 2.0, MEMORY)
    torch.save(area.state_dict(), tmp_path / "area.pth")
    other.load_state_dict(torch.load(tmp_path / "area.pth", weights_only=True))
    for each in (area, other):
        each.count("unlabeled", one_hot([3, 3, 3]))
    assert torch.equal(area.class_weights(), other.class_weights())
    assert area.class_weights().min() < 1
