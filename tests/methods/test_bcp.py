import pytest
import torch
from tiny_students import NOW, K, Pixelwise, build_host, labels_of, logits_of, make_pass, one_level, stripes
from torch import Tensor

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.methods import BidirectionalCopyPaste, LabeledBatch, PseudoLabel, UnlabeledBatch

BOX = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
BOX[:, :, 1:3, 1:5] = True  # 8 of 24 voxels
ONES, TWOS = torch.ones(2, 4, 6).long(), torch.full((2, 4, 6), 2)


@pytest.fixture(autouse=True)
def one_box(monkeypatch) -> None:
    def box_mask(shape: torch.Size, device: torch.device, side: float) -> Tensor:
        return BOX.expand(shape[0], 1, *shape[2:])

    monkeypatch.setattr("nnunet_semisam.methods.bcp.box_mask", box_mask)
    monkeypatch.setattr("nnunet_semisam.methods.bcp.frame_comes_first", lambda: True)


def pixelwise(has_regions: bool = False, **settings) -> tuple[BidirectionalCopyPaste, Pixelwise]:
    labels = labels_of(has_regions)
    settings = {"start": 0.0, "rampup": 0.0} | settings
    method = BidirectionalCopyPaste(BidirectionalCopyPaste.Settings(**settings), labels)
    student = Pixelwise()
    method.setup(student, build_host(labels, Pixelwise))
    return method, student


def terms_of(method, student, labeled, unlabeled) -> list:
    return list(method.terms(student, labeled, unlabeled, NOW))


def test_labeled_boxes_in_unlabeled_images_and_the_other_way_round():
    method, student = pixelwise(unlabeled_weight=0.5)
    labeled = one_level(torch.full((2, K, 4, 6), 5.0), ONES[:, None].to(torch.int16))
    unlabeled = UnlabeledBatch(logits_of(TWOS), torch.full((2, K, 4, 6), 7.0))
    first, second = terms_of(method, student, labeled, unlabeled)
    box = BOX.expand(2, 1, 4, 6)
    for term, annotated in ((first, box), (second, ~box)):
        assert torch.equal(term.annotated, annotated)
        assert torch.equal(term.images, torch.where(annotated, 5.0, 7.0).expand(2, K, 4, 6))
        assert torch.equal(term.target.argmax(1, keepdim=True), torch.where(annotated, 1, 2))
        assert torch.equal(term.confidence, torch.where(annotated, 1.0, 0.5))
        assert not term.mixable
        assert term.learner is None


def test_target_outside_is_the_hard_label_of_the_teacher():
    method, student = pixelwise()
    weak = logits_of(stripes(), strength=0.5)
    labeled = one_level(torch.zeros(2, K, 4, 6), ONES[:, None])
    first, second = terms_of(method, student, labeled, UnlabeledBatch(weak, weak))
    merged = torch.where(BOX[0, 0], second.target.argmax(1), first.target.argmax(1))
    assert torch.equal(merged, stripes())
    assert set(first.target.unique().tolist()) == {0.0, 1.0}


def test_unsure_unlabeled_voxels_are_not_learned_and_annotated_ones_always():
    method, student = pixelwise(confidence=0.9)
    weak = logits_of(stripes(), strength=1.0)
    labeled = one_level(torch.zeros(2, K, 4, 6), ONES[:, None])
    first, _ = terms_of(method, student, labeled, UnlabeledBatch(weak, weak))
    assert torch.equal(first.confidence, BOX.expand(2, 1, 4, 6).float())


def test_ignore_label_in_a_pasted_box_is_not_learned():
    method, student = pixelwise()
    target = ONES.clone()
    target[:, 1] = K  # upper row of the box
    labeled = one_level(torch.zeros(2, K, 4, 6), target[:, None])
    first, _ = terms_of(method, student, labeled, UnlabeledBatch(logits_of(TWOS), logits_of(TWOS)))
    assert first.confidence[:, 0, 1, 1:5].eq(0).all()
    assert first.confidence[:, 0, 2, 1:5].eq(1).all()


def test_pseudo_label_keeps_its_voxels_only():
    method, student = pixelwise()
    labeled = one_level(torch.zeros(2, K, 4, 6), ONES[:, None])
    pseudo = PseudoLabel(logits_of(TWOS, 1.0), torch.full((2, 1, 4, 6), 0.8))
    unlabeled = UnlabeledBatch(logits_of(TWOS), logits_of(TWOS), pseudo)
    first, second = terms_of(method, student, labeled, unlabeled)
    assert torch.equal(first.learned_pseudo.confidence, torch.where(BOX, 0.0, 0.8).expand(2, 1, 4, 6))
    assert torch.equal(second.learned_pseudo.confidence, torch.where(BOX, 0.8, 0.0).expand(2, 1, 4, 6))


def test_labeled_patches_are_used_in_turn_where_there_are_fewer():
    method, student = pixelwise()
    data = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1).expand(2, K, 4, 6)
    labeled = one_level(data, ONES[:, None])
    views = torch.zeros(3, K, 4, 6)
    first, _ = terms_of(method, student, labeled, UnlabeledBatch(views, views))
    assert first.images[:, 0, 1, 1].tolist() == [10.0, 20.0, 10.0]


def test_gate_weighs_unlabeled_voxels_and_no_annotated_one():
    """By hand: class 2 is inactive and merged, class 1 has weight 0.6; half the confidence on unlabeled voxels."""
    method, student = pixelwise(unlabeled_weight=0.5)
    labeled = one_level(logits_of(TWOS), TWOS[:, None])
    first, _ = terms_of(method, student, labeled, UnlabeledBatch(logits_of(ONES), logits_of(ONES)))
    gate = ClassGate(GateSettings(), method.labels)
    gated = gate.apply(first, student(first.images), torch.tensor([0.0, 0.6, 0.1]))
    box = BOX.expand(2, 1, 4, 6)
    assert torch.equal(gated.target.argmax(1, keepdim=True), torch.where(box, 2, 1))
    torch.testing.assert_close(gated.confidence, torch.where(box, 1.0, 0.3))


def test_areas_are_of_whole_targets_and_agreement_of_unlabeled_voxels_of_frame_and_middle_in_turn(monkeypatch):
    """Counted outside of the box alone, a class in the middle of patches would seem to have vanished."""
    labeled = one_level(logits_of(ONES), ONES[:, None])
    middle = torch.where(BOX[:, 0].expand(2, 4, 6), 2, 0)
    compared = []
    for frame_first in (True, False):
        method, student = pixelwise(loss="cross_entropy")
        driver = make_pass(method)
        monkeypatch.setattr("nnunet_semisam.methods.bcp.frame_comes_first", lambda first=frame_first: first)
        list(driver.losses(student, labeled, UnlabeledBatch(logits_of(middle), logits_of(middle)), NOW))
        assert driver.gate.area.shares("unlabeled").tolist() == pytest.approx([16 / 24, 0.0, 8 / 24])
        compared.append(driver.gate.agreement.size.tolist())
    assert compared[0] == pytest.approx([2 * 2 * 16, 0.0, 0.0])  # outside of the box all is background
    assert compared[1] == pytest.approx([0.0, 0.0, 2 * 2 * 8])


def test_loss_by_hand():
    """The student is right on annotated voxels and knows nothing of the others: log 3 on those, at half the weight."""
    method, student = pixelwise(loss="cross_entropy", unlabeled_weight=0.5, weight=2.0)
    labeled = one_level(logits_of(ONES, 40.0), ONES[:, None])
    unlabeled = UnlabeledBatch(logits_of(TWOS), torch.zeros(2, K, 4, 6))
    driver = make_pass(method, {"area_factor": 1e30})  # no label shows class 2
    losses = [loss.item() for loss in driver.losses(student, labeled, unlabeled, NOW)]
    log_3 = torch.tensor(3.0).log().item()
    assert losses == pytest.approx([2 * 0.5 * log_3 * 16 / 24, 2 * 0.5 * log_3 * 8 / 24], rel=1e-5)


def test_published_values_are_the_defaults():
    settings = BidirectionalCopyPaste.Settings()
    assert (settings.box_side, settings.unlabeled_weight) == (pytest.approx(2 / 3), 0.5)


def test_in_the_first_phase_labeled_patches_get_a_box_of_their_neighbour_at_every_level():
    method, _ = pixelwise(pretraining=0.25)
    data = torch.stack([torch.zeros(K, 4, 6), torch.ones(K, 4, 6)])
    label = torch.tensor([1, 2]).view(2, 1, 1, 1).expand(2, 1, 4, 6).to(torch.int16)
    labeled = LabeledBatch(data, (label, label[:, :, ::2, ::2]), num_random=1)
    mixed = method.augment_labeled(labeled, 0.2)
    box = BOX[0, 0]
    assert torch.equal(mixed.data[0], box.float().expand(K, 4, 6))
    assert torch.equal(mixed.data[1], (~box).float().expand(K, 4, 6))
    assert torch.equal(mixed.levels[0][0, 0], torch.where(box, 2, 1).to(torch.int16))
    assert torch.equal(mixed.levels[1][1, 0], torch.where(box[1::2, 1::2], 1, 2).to(torch.int16))
    assert method.augment_labeled(labeled, 0.25) is labeled


def test_published_phases_are_the_defaults():
    settings = BidirectionalCopyPaste.Settings()
    assert (settings.pretraining, settings.start) == (0.25, 0.25)
