"""The class gate: when a class is active, and what the loss takes of a term."""

from __future__ import annotations

import pytest
import torch

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import PseudoLabel, UnlabeledTerm
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES

WIDTH = GateSettings().width


def gate_of(heads: int = 3, has_regions: bool = False, **settings) -> ClassGate:
    labels = Labels.of_regions(heads) if has_regions else Labels.of_classes(heads)
    return ClassGate(GateSettings(**settings), labels)


def set_dice(gate: ClassGate, values: list[float]) -> None:
    gate.labeled_dice.size[:] = 2.0
    gate.labeled_dice.overlap[:] = torch.tensor(values)


def one_hot(labels: list[int], classes: int = 3) -> torch.Tensor:
    """One patch of one row, ``(1, K, 1, X)``."""
    return torch.eye(classes)[torch.tensor(labels)].T.reshape(1, classes, 1, -1)


def ones(labels: list[int]) -> torch.Tensor:
    return torch.ones(1, 1, 1, len(labels))


# ------------------------------------------------------------------------------------------------------ Dice weights


def test_each_class_is_weighed_by_its_dice_and_the_background_waits_for_all():
    gate = gate_of(dice=0.6)
    set_dice(gate, [1.0, 0.6 + WIDTH / 4, 0.6])
    torch.testing.assert_close(gate.dice_weights(), torch.tensor([0.0, 0.25, 0.0]))
    set_dice(gate, [1.0, 0.99, 0.6 + WIDTH / 2])
    torch.testing.assert_close(gate.dice_weights(), torch.tensor([0.5, 1.0, 0.5]))
    set_dice(gate, [1.0, 0.99, 0.6 + WIDTH])
    torch.testing.assert_close(gate.dice_weights(), torch.ones(3))


def test_width_from_threshold_to_full_weight_is_a_setting():
    gate = gate_of(dice=0.5, width=0.4)
    set_dice(gate, [1.0, 0.6, 0.8])
    torch.testing.assert_close(gate.dice_weights(), torch.tensor([0.25, 0.25, 0.75]))


def test_class_that_was_never_seen_is_inactive():
    gate = gate_of(dice=0.6)
    gate.measure_labeled(one_hot([0, 1]), one_hot([0, 1]), ones([0, 1]), 1)
    assert gate.dice_weights().tolist() == [0, 1, 0]  # and the background waits for it


def test_regions_have_no_background_and_do_not_wait():
    gate = gate_of(2, has_regions=True, dice=0.6)
    set_dice(gate, [0.8, 0.1])
    assert gate.dice_weights().tolist() == [1.0, 0.0]


def test_threshold_zero_makes_every_class_active_at_once():
    gate = gate_of(dice=0.0)
    assert gate.dice_weights().tolist() == [1, 1, 1]
    assert gate.is_open()


def test_class_weights_are_dice_weights_times_area_weights():
    gate = gate_of(dice=0.6, area_factor=2.0)
    set_dice(gate, [1.0, 0.6 + WIDTH / 2, 0.9])
    row = [0, 0, 1, 2]
    for _ in range(2):  # equal patches: both shares are exact
        gate.area.count("labeled", one_hot(row))
        gate.area.count("unlabeled", one_hot([2, 2, 2, 1]))  # class 2 takes three times its share: 2 / 3
    assert gate.class_weights().tolist() == pytest.approx([0.5 * 2 / 3, 0.5, 2 / 3])


# ----------------------------------------------------------------------------------------------------------- the start


def test_start_all_waits_until_every_class_is_active():
    gate = gate_of(dice=0.6, start="all")
    set_dice(gate, [1.0, 0.9, 0.6])
    assert not gate.is_open()
    set_dice(gate, [1.0, 0.9, 0.6 + 0.51 * WIDTH])
    assert gate.is_open()


def test_classes_need_not_be_active_at_the_same_measurement():
    gate = gate_of(dice=0.6, start="all")
    set_dice(gate, [1.0, 0.9, 0.1])
    assert not gate.is_open()
    set_dice(gate, [1.0, 0.1, 0.9])
    assert gate.is_open()  # each was active once
    assert gate.class_weights()[1] == 0  # and the one that is lost is merged


def test_after_its_patience_the_gate_opens_without_a_class_that_is_never_learned():
    gate = gate_of(dice=0.6, start="all", measure_every=10, patience=20)
    label = one_hot([0, 1, 2])
    missed = one_hot([0, 1, 1])
    gate.measure_labeled(missed, label, ones([0, 1, 2]), 1)
    set_dice(gate, [1.0, 0.9, 0.0])
    assert not gate.is_open()
    resumed = gate_of(dice=0.6, start="all", measure_every=10, patience=20)
    resumed.load_state_dict(gate.state_dict())
    resumed.measure_labeled(missed, label, ones([0, 1, 2]), 1)
    set_dice(resumed, [1.0, 0.9, 0.0])
    assert resumed.is_open()


def test_gate_remembers_when_it_opened_first_and_a_resumed_one_too():
    gate = gate_of(dice=0.6, start="any")
    assert not gate.is_open(0.1)
    assert gate.opened_at is None
    set_dice(gate, [1.0, 0.9, 0.1])
    assert gate.is_open(0.3)
    assert gate.is_open(0.5)
    assert gate.opened_at == 0.3
    resumed = gate_of(dice=0.6, start="any")
    resumed.load_state_dict(gate.state_dict())
    assert resumed.opened_at == 0.3


def test_start_any_waits_for_one_class():
    gate = gate_of(dice=0.6, start="any")
    assert not gate.is_open()
    set_dice(gate, [1.0, 0.9, 0.1])
    assert gate.is_open()


def test_after_the_start_a_lost_class_does_not_stop_the_others_but_losing_all_does():
    gate = gate_of(dice=0.6, start="all")
    set_dice(gate, [1.0, 0.9, 0.9])
    assert gate.is_open()
    set_dice(gate, [1.0, 0.9, 0.0])
    assert gate.is_open()
    set_dice(gate, [1.0, 0.0, 0.0])
    assert not gate.is_open()
    assert gate.started


def test_weight_from_which_a_class_is_active_is_a_setting():
    gate = gate_of(dice=0.6, active_from=0.9)
    set_dice(gate, [1.0, 0.6 + 0.8 * WIDTH, 0.9])
    assert not gate.is_open()
    set_dice(gate, [1.0, 0.6 + 0.95 * WIDTH, 0.9])
    assert gate.is_open()


# -------------------------------------------------------------------------------------------------------- measurements


def test_areas_count_patches_drawn_at_random_only():
    gate = gate_of()
    label = torch.cat([one_hot([0, 0, 1, 2]), one_hot([2, 2, 2, 2])])
    gate.measure_labeled(label, label, torch.ones(2, 1, 1, 4), num_random=1)
    assert gate.area.shares("labeled").tolist() == pytest.approx([0.5, 0.25, 0.25])
    gate.count_target(label, num_random=1)
    assert gate.area.shares("unlabeled").tolist() == pytest.approx([0.5, 0.25, 0.25])
    gate = gate_of()
    gate.count_target(label, num_random=None)
    assert gate.area.shares("unlabeled").tolist() == pytest.approx([2 / 8, 1 / 8, 5 / 8])


def test_one_patch_counts_even_if_none_was_drawn_at_random():
    gate = gate_of()
    gate.measure_labeled(one_hot([0, 1]), one_hot([0, 1]), ones([0, 1]), num_random=0)
    assert gate.area.shares("labeled").tolist() == pytest.approx([0.5, 0.5, 0.0])


def test_a_rank_without_random_patches_leaves_areas_to_the_others(monkeypatch):
    """nnU-Net gives all foreground patches of a small batch to the last ranks."""
    monkeypatch.setattr("nnunet_semisam.ranks.several", lambda: True)
    monkeypatch.setattr("nnunet_semisam.gate.area_prior.sum_over_ranks", lambda counts: counts)
    monkeypatch.setattr("nnunet_semisam.gate.running_dice.sum_over_ranks", lambda counts: counts)
    gate = gate_of()
    gate.measure_labeled(one_hot([0, 1]), one_hot([0, 1]), ones([0, 1]), num_random=0)
    gate.count_target(one_hot([0, 1]), num_random=0)
    assert gate.area.shares("labeled").sum() == gate.area.shares("unlabeled").sum() == 0
    assert gate.labeled_dice.measured


def test_soft_targets_are_counted_by_their_winner():
    gate = gate_of()
    target = torch.tensor([[0.6, 0.1], [0.3, 0.2], [0.1, 0.7]]).view(1, 3, 1, 2)
    gate.count_target(target, None)
    assert gate.area.shares("unlabeled").tolist() == pytest.approx([0.5, 0.0, 0.5])


def test_annotated_voxels_tell_nothing_of_unlabeled_images():
    gate = gate_of()
    annotated = torch.tensor([True, True, False, False]).view(1, 1, 1, 4)
    gate.count_target(one_hot([2, 2, 0, 1]), None, annotated)
    assert gate.area.shares("unlabeled").tolist() == pytest.approx([0.5, 0.5, 0.0])
    gate.measure_agreement(9 * one_hot([2, 2, 0, 0]), one_hot([2, 2, 0, 1]), annotated)
    assert gate.agreement.dice().tolist() == pytest.approx([2 / 3, 0.0, 0.0])


def test_estimated_dice_is_that_on_labeled_patches_until_views_were_compared():
    gate = gate_of()
    assert gate.estimated_dice() == 0.0
    set_dice(gate, [0.2, 0.9, 0.5])
    assert gate.estimated_dice() == pytest.approx(0.7)  # the mean over the foreground
    gate.measure_agreement(9 * one_hot([0, 1, 2, 0]), one_hot([0, 1, 2, 2]))
    assert gate.estimated_dice() == pytest.approx((1.0 + 2 / 3) / 2)


def test_estimated_dice_of_regions_counts_all_of_them():
    gate = gate_of(has_regions=True)
    set_dice(gate, [1.0, 1.0, 0.0])
    assert gate.estimated_dice() == pytest.approx(2 / 3)


def test_class_on_which_student_and_target_agree_less_than_they_used_to_loses_weight():
    """The labeled patches are known by heart, and on unlabeled ones class 2 dissolves."""
    gate = gate_of(memory=0.0, agreement_memory=0.5)
    set_dice(gate, [1.0, 1.0, 1.0])
    assert gate.class_weights().tolist() == [1.0, 1.0, 1.0]
    target = one_hot([0, 1, 2, 2])
    gate.measure_agreement(9 * target, target)
    assert gate.agreement_weights().tolist() == [1.0, 1.0, 1.0]
    gate.measure_agreement(9 * one_hot([0, 1, 2, 1]), target)
    # class 1: Dice 2/3, level (1 + 2/3) / 2 = 5/6; class 2: Dice 2/3 as well
    assert gate.agreement_weights().tolist() == pytest.approx([1.0, 0.8, 0.8])
    gate.measure_agreement(9 * target, target)
    assert gate.agreement_weights().tolist() == [1.0, 1.0, 1.0]


def test_a_level_of_agreement_of_other_classes_is_refused():
    state = gate_of().state_dict()
    with pytest.raises(ValueError, match="agreement is of 2 channels"):
        gate_of().load_state_dict(state | {"agreement_level": torch.zeros(2)})


# ----------------------------------------------------------------------------------------------- what the loss takes


def term_of(target: torch.Tensor, **more) -> UnlabeledTerm:
    return UnlabeledTerm(torch.zeros(1, 1, 1, target.shape[-1]), target, torch.ones(1, 1, 1, target.shape[-1]), **more)


def test_all_voxels_have_the_weight_of_the_least_certain_active_class():
    gate = gate_of(active_from=0.5)
    logits = torch.randn(1, 3, 1, 3)
    gated = gate.apply(term_of(one_hot([0, 1, 2])), logits, torch.tensor([0.0, 1.0, 0.6]))
    assert gated.confidence.flatten().tolist() == pytest.approx([0.6, 0.6, 0.6])
    assert gated.class_weights.tolist() == [1.0, 1.0, 1.0]  # in the confidence by now, and not to be counted twice
    assert torch.equal(gated.logits, logits)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_class_does_not_grow_because_the_background_counts_less(loss):
    """A student that knows nothing, and as many voxels of each class: nothing pulls to more of one of them."""
    logits, weights = torch.zeros(1, 3, 1, 6).requires_grad_(), torch.tensor([0.0, 1.0, 0.6])
    gated = gate_of().apply(term_of(one_hot([0, 1, 2, 0, 1, 2])), logits, weights)
    UNLABELED_LOSSES.get(loss)(
        gated.logits, gated.target, gated.confidence, gated.class_weights, Labels.of_classes(3)
    ).backward()
    assert logits.grad.abs().max() > 0.01
    assert logits.grad.sum(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_inactive_class_is_merged_into_the_background():
    gate = gate_of()
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    gated = gate.apply(term_of(one_hot([0, 1, 2])), logits, torch.tensor([0.0, 0.8, 0.4]))
    assert gated.target.argmax(1).flatten().tolist() == [0, 1, 0]
    torch.testing.assert_close(gated.logits.softmax(1)[0, :, 0, 0], torch.tensor([0.7, 0.3, 0.0]))
    assert gated.confidence.flatten().tolist() == pytest.approx([0.8, 0.8, 0.8])


def test_annotated_voxels_need_no_gate_and_keep_their_class():
    gate = gate_of()
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    annotated = torch.tensor([False, False, True]).view(1, 1, 1, 3)
    term = term_of(one_hot([0, 2, 2]), annotated=annotated)
    gated = gate.apply(term, logits, torch.tensor([0.0, 0.8, 0.4]))
    assert gated.target.argmax(1).flatten().tolist() == [0, 0, 2]
    assert gated.confidence.flatten().tolist() == pytest.approx([0.8, 0.8, 1.0])
    torch.testing.assert_close(gated.logits.softmax(1)[0, :, 0, 2], torch.tensor([0.5, 0.3, 0.2]))


@pytest.mark.parametrize("has_regions", [False, True])
def test_target_that_a_confident_pseudo_label_contradicts_is_not_learned(has_regions):
    gate = gate_of(has_regions=has_regions)
    pseudo = PseudoLabel(one_hot([0, 1, 1, 1]), torch.tensor([1.0, 1.0, 0.7, 0.0]).view(1, 1, 1, 4))
    gated = gate.apply(term_of(one_hot([0, 1, 0, 0]), pseudo=pseudo), torch.zeros(1, 3, 1, 4), torch.ones(3))
    assert gated.confidence.flatten().tolist() == [1.0, 1.0, 0.0, 1.0]


def test_what_age_takes_from_a_pseudo_label_it_leaves_to_the_target_that_contradicts_it():
    pseudo = PseudoLabel(
        one_hot([1, 1, 0]), torch.tensor([0.8, 0.8, 0.8]).view(1, 1, 1, 3), torch.full((1, 1, 1, 3), 0.25)
    )
    gate, logits, weights = gate_of(), torch.zeros(1, 3, 1, 3), torch.ones(3)
    gated = gate.apply(term_of(one_hot([0, 1, 2]), pseudo=pseudo), logits, weights)
    assert gated.confidence.flatten().tolist() == [0.75, 1.0, 0.75]
    learned = gate.apply_to_pseudo_label(pseudo, logits, weights)
    assert learned.confidence.flatten().tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_an_inactive_class_of_a_pseudo_label_contradicts_no_background():
    pseudo = PseudoLabel(one_hot([2, 1, 0]), torch.ones(1, 1, 1, 3))
    term, logits = term_of(one_hot([0, 2, 2]), pseudo=pseudo), torch.zeros(1, 3, 1, 3)
    gated = gate_of().apply(term, logits, torch.tensor([0.0, 1.0, 0.1]))
    assert gated.confidence.flatten().tolist() == [1.0, 0.0, 1.0]


def test_a_target_is_compared_with_a_pseudo_label_after_inactive_classes_became_background():
    """Background and the inactive class together outweigh class 1: what is learned is background."""
    target = torch.tensor([0.3, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    pseudo = PseudoLabel(one_hot([0, 1]), torch.ones(1, 1, 1, 2))
    gated = gate_of().apply(term_of(target, pseudo=pseudo), torch.zeros(1, 3, 1, 2), torch.tensor([0.0, 1.0, 0.1]))
    assert gated.confidence.flatten().tolist() == [1.0, 0.0]


def test_a_region_that_is_not_learned_contradicts_nothing():
    pseudo = PseudoLabel(one_hot([1, 2]), torch.ones(1, 1, 1, 2))
    term, logits = term_of(one_hot([1, 1]), pseudo=pseudo), torch.zeros(1, 3, 1, 2)
    gate = gate_of(has_regions=True)
    gated = gate.apply(term, logits, torch.tensor([1.0, 0.0, 0.0]))
    assert gated.confidence.flatten().tolist() == [1.0, 1.0]
    assert gate.apply(term, logits, torch.ones(3)).confidence.flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("loss", ["mse", "confidence_aware", "cross_entropy", "dice_ce"])
def test_an_annotated_voxel_teaches_a_region_that_is_inactive_elsewhere(loss):
    annotated = torch.tensor([True, False]).view(1, 1, 1, 2)
    logits = torch.zeros(1, 3, 1, 2).requires_grad_()
    gate = gate_of(has_regions=True)
    gated = gate.apply(term_of(one_hot([1, 1]), annotated=annotated), logits, torch.tensor([1.0, 0.0, 1.0]))
    UNLABELED_LOSSES.get(loss)(
        gated.logits, gated.target, gated.confidence, gated.class_weights, Labels.of_regions(3)
    ).backward()
    here, elsewhere = logits.grad[0, 1, 0].tolist()
    assert here < -1e-3
    assert elsewhere == 0.0


@pytest.mark.parametrize("has_regions", [False, True])
def test_an_annotation_is_learned_whatever_the_pseudo_label_is(has_regions):
    gate = gate_of(has_regions=has_regions)
    pseudo = PseudoLabel(one_hot([1, 1]), torch.ones(1, 1, 1, 2))
    annotated = torch.tensor([True, False]).view(1, 1, 1, 2)
    term = term_of(one_hot([0, 0]), pseudo=pseudo, annotated=annotated)
    gated = gate.apply(term, torch.zeros(1, 3, 1, 2), torch.ones(3))
    assert gated.confidence.flatten().tolist() == [1.0, 0.0]


def test_regions_are_weighed_one_by_one_and_not_merged():
    gate = gate_of(has_regions=True)
    weights, logits = torch.tensor([1.0, 0.4, 0.0]), torch.randn(1, 3, 1, 2)
    gated = gate.apply(term_of(one_hot([0, 1])), logits, weights)
    assert gated.logits is logits
    assert torch.equal(gated.class_weights, weights)
    assert gated.confidence.eq(1).all()


def test_inactive_class_of_a_pseudo_label_is_merged_and_its_background_still_counts():
    gate = gate_of(active_from=0.5)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    pseudo = PseudoLabel(one_hot([0, 1, 2, 1]), torch.tensor([1.0, 0.9, 1.0, 0.0]).view(1, 1, 1, 4))
    gated = gate.apply_to_pseudo_label(pseudo, logits, torch.tensor([0.0, 0.8, 0.1]))
    assert gated.target.argmax(1).flatten().tolist() == [0, 1, 0, 1]
    assert gated.confidence.flatten().tolist() == pytest.approx([0.8, 0.72, 0.8, 0.0])
    torch.testing.assert_close(gated.logits.softmax(1)[0, :, 0, 0], torch.tensor([0.7, 0.3, 0.0]))


# ------------------------------------------------------------------------------------------------------ state and log


def test_log_names_every_channel():
    gate = gate_of(dice=0.5)
    set_dice(gate, [0.9, 0.8, 0.55])
    log = gate.log()
    assert list(log) == [
        "estimated_dice",
        *(f"labeled_dice_{k}" for k in range(3)),
        *(f"class_weight_{k}" for k in range(3)),
    ]
    assert log["labeled_dice_1"] == pytest.approx(0.8)
    assert log["class_weight_2"] == pytest.approx(0.5)
    assert log["estimated_dice"] == pytest.approx(0.675)
    assert all(type(value) is float for value in log.values())


def test_state_is_restored(tmp_path):
    gate, other = gate_of(), gate_of()
    gate.measure_labeled(one_hot([0, 1, 2]), one_hot([0, 1, 2]), ones([0, 1, 2]), 1)
    gate.count_target(one_hot([0, 1, 1]), None)
    gate.measure_agreement(9 * one_hot([0, 1, 2]), one_hot([0, 1, 1]))
    assert gate.is_open()
    torch.save(gate.state_dict(), tmp_path / "gate.pth")
    other.load_state_dict(torch.load(tmp_path / "gate.pth", weights_only=True))
    assert other.started
    assert other.log() == gate.log()
    for each in (gate, other):
        each.count_target(one_hot([2, 1, 1]), None)
    assert torch.equal(gate.class_weights(), other.class_weights())
