"""The driver of all methods: schedule, measurements, mixing, gate, losses and log."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_students import (
    NOW,
    K,
    Pixelwise,
    StoredPseudoLabels,
    build_host,
    labeled_stripes,
    labels_of,
    logits_of,
    make_batches,
    make_method,
    make_pass,
    make_step,
    one_level,
    stripes,
)
from torch import nn

from nnunet_semisam.methods import MeanTeacher, PseudoLabel, SSLMethod, UnlabeledBatch, UnlabeledTerm
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.training.unlabeled_pass import UnlabeledPass, worst_prediction


def pixelwise(has_regions: bool = False, gate: dict | None = None, **settings) -> tuple[UnlabeledPass, Pixelwise]:
    """Return the driver of a Mean Teacher whose networks return their images."""
    labels = labels_of(has_regions)
    settings = {"start": 0.0, "rampup": 0.0, "labeled_mix_probability": 0.0} | settings
    method, student = MeanTeacher(MeanTeacher.Settings(**settings), labels), Pixelwise()
    method.setup(student, build_host(labels, Pixelwise))
    gate = {"dice": 0.5, "start": "any", "area_factor": 2.0} | (gate or {})
    return make_pass(method, gate), student


def total_of(
    driver: UnlabeledPass, student: nn.Module, labeled, unlabeled, progress: float = NOW
) -> torch.Tensor | None:
    losses = list(driver.losses(student, labeled, unlabeled, progress))
    return torch.stack(losses).sum() if losses else None


def same(labels: torch.Tensor) -> UnlabeledBatch:
    """Unlabeled patches on which teacher and student see these labels."""
    return UnlabeledBatch(logits_of(labels), logits_of(labels))


def count_calls(network: nn.Module) -> list:
    calls: list = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


class Scripted(SSLMethod):
    """Yields the terms that the test wants."""

    def __init__(self, make_terms, **settings) -> None:
        super().__init__(MethodSettings(**({"start": 0.0, "rampup": 0.0, "loss": "mse"} | settings)), labels_of(False))
        self.make_terms = make_terms

    def terms(self, student, labeled, unlabeled, progress):
        yield from self.make_terms(unlabeled)


def term_of(unlabeled: UnlabeledBatch, **more) -> UnlabeledTerm:
    target = 0.3 + 0.1 * torch.eye(K)[stripes()].movedim(-1, 1)
    return UnlabeledTerm(unlabeled.strong, target, torch.ones_like(target[:, :1]), **more)


def patches() -> UnlabeledBatch:
    return UnlabeledBatch(torch.zeros(2, K, 4, 6), logits_of(stripes(), 2.0))


# ----------------------------------------------------------------------------------------------- schedule and weights


def test_ramp_may_begin_where_the_gate_opened():
    driver, student = pixelwise(
        gate={"dice": 0.5, "start": "any"}, start=0.2, rampup=0.2, ramp_from="gate", cutmix_probability=0.0
    )
    unlabeled = UnlabeledBatch(logits_of(stripes()), torch.zeros(2, K, 4, 6))
    assert total_of(driver, student, labeled_stripes(), unlabeled, 0.5) is not None
    assert driver.log["unlabeled_weight"] == pytest.approx(0.006737947)  # exp(-5): the ramp begins here
    total_of(driver, student, labeled_stripes(), unlabeled, 0.6)
    assert driver.log["unlabeled_weight"] == pytest.approx(0.2865048)  # exp(-5 / 4): half of the ramp
    total_of(driver, student, labeled_stripes(), unlabeled, 0.7)
    assert driver.log["unlabeled_weight"] == 1.0


def test_weight_ramps_with_progress():
    driver, student = pixelwise(gate={"dice": 0.0}, start=0.2, rampup=0.2, weight=3.0, cutmix_probability=0.0)
    unlabeled = UnlabeledBatch(logits_of(stripes()), torch.zeros(2, K, 4, 6))
    before = total_of(driver, student, labeled_stripes(), unlabeled, 0.19)
    assert (before, driver.log["unlabeled_weight"]) == (None, 0.0)
    early = total_of(driver, student, labeled_stripes(), unlabeled, 0.2)
    assert driver.log["unlabeled_weight"] == pytest.approx(3 * 0.006737947)
    late = total_of(driver, student, labeled_stripes(), unlabeled, 0.4)
    assert late.item() == pytest.approx(3 * driver.log["unlabeled_loss"], rel=1e-6)
    assert driver.log["unlabeled_weighted"] == pytest.approx(3 * driver.log["unlabeled_loss"])
    assert early.item() == pytest.approx(0.006737947 * late.item(), rel=1e-5)


def test_terms_have_weight_loss_learner_and_extra_of_their_own():
    other = Pixelwise()

    def terms(unlabeled):
        yield term_of(unlabeled, weight=0.25)
        yield term_of(unlabeled, loss="cross_entropy", learner=other, extra=lambda output: 100 + 0 * output.sum())

    method = Scripted(terms, weight=2.0)
    driver, student = make_pass(method), Pixelwise()
    first, second = driver.losses(student, labeled_stripes(), patches(), NOW)
    probs, target = torch.tensor([2.0, 0.0, 0.0]).softmax(0), torch.tensor([0.4, 0.3, 0.3])  # of any voxel
    squared = float((probs - target).square().mean())
    entropy = float(-(target * probs.log()).sum())
    assert first.item() == pytest.approx(2 * 0.25 * squared, rel=1e-5)
    assert second.item() == pytest.approx(2 * (entropy + 100), rel=1e-5)  # both are ramped
    assert driver.log["unlabeled_loss"] == pytest.approx(0.25 * squared + entropy, rel=1e-5)
    assert driver.log["unlabeled_extra"] == pytest.approx(100)
    first.backward()
    assert student.gain.grad is not None
    assert other.gain.grad is None


def test_next_term_is_asked_for_after_the_loss_of_the_one_before_was_consumed():
    asked: list[int] = []

    def terms(unlabeled):
        for index in range(3):
            asked.append(index)
            yield term_of(unlabeled)

    losses = make_pass(Scripted(terms)).losses(Pixelwise(), labeled_stripes(), patches(), NOW)
    for index in range(3):
        next(losses)
        assert asked == list(range(index + 1))
    assert next(losses, None) is None


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_one_graph_is_alive_at_a_time():
    alive: list[weakref.ref] = []

    def save(tensor: torch.Tensor) -> Saved:
        saved = Saved(tensor)
        alive.append(weakref.ref(saved))
        return saved

    class Watching(Pixelwise):
        def forward(self, x):
            assert all(each() is None for each in alive)
            with torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.tensor):
                logits = super().forward(x).square()
            alive.append(weakref.ref(logits))
            return logits

    driver = make_pass(Scripted(lambda unlabeled: (term_of(unlabeled) for _ in range(3)), cutmix_probability=0.0))
    driver.step = 1  # no measurement is due
    step = make_step(driver, Watching(), loss=lambda output, target: output.mean())
    labeled = labeled_stripes()
    unlabeled = {"weak": torch.zeros(2, K, 4, 6), "strong": logits_of(stripes(), 2.0)}
    step({"data": labeled.data, "target": labeled.target}, unlabeled, NOW)
    assert len(alive) == 4 * 3  # in four passes two saved tensors, and the logits


# -------------------------------------------------------------------------------------------------------- measurements


def test_prompting_network_is_measured_every_so_many_steps_and_no_more():
    method, student = make_method("mean_teacher")
    labeled, unlabeled = make_batches(with_pseudo=False)
    driver = make_pass(method, {"dice": 0.95, "measure_every": 4})
    calls = count_calls(method.teacher.network)
    measured = []
    for step in range(9):
        before = len(calls)
        list(driver.losses(student, labeled, unlabeled, NOW))
        if len(calls) > before:
            measured.append(step)
    assert measured == [0, 4, 8]
    assert len(calls) == 3


def test_the_gate_measures_labeled_patches_as_they_were_drawn():
    """Boxes that a method pastes are of other patches, whose foreground would count as if it had been drawn there."""

    class Blanking(Scripted):
        def augment_labeled(self, labeled, progress):
            return replace(labeled, data=0 * labeled.data, levels=tuple(0 * level for level in labeled.levels))

    driver = make_pass(Blanking(lambda unlabeled: iter(())))
    labeled = labeled_stripes()
    step = make_step(driver, Pixelwise(), loss=lambda output, target: output.mean())
    step({"data": labeled.data, "target": labeled.target}, None, NOW)
    assert driver.gate.labeled_dice.dice().tolist() == [1.0] * K


def test_areas_of_a_mixed_target_are_those_of_the_patch_itself():
    def one_term(unlabeled):
        mixed = torch.zeros(2, K, 4, 6)
        mixed[:, 2] = 1.0
        yield replace(term_of(unlabeled), target=mixed, counted=logits_of(stripes()).softmax(1))

    driver = make_pass(Scripted(one_term, cutmix_probability=0.0))
    list(driver.losses(Pixelwise(), labeled_stripes(), same(stripes()), NOW))
    torch.testing.assert_close(driver.gate.area.counts["unlabeled"].share(), torch.full((K,), 1 / K).double())


def test_of_several_networks_that_teach_the_worst_is_measured():
    class Two(Scripted):
        other = Pixelwise()

        def measured_networks(self, student):
            return student, self.other

    method = Two(lambda unlabeled: iter(()))
    with torch.no_grad():
        method.other.gain.fill_(-1.0)  # wrong everywhere
    driver = make_pass(method)
    list(driver.losses(Pixelwise(), labeled_stripes(), None, NOW))
    assert driver.gate.labeled_dice.dice().max() < 0.5


def test_a_network_that_lacks_a_class_is_the_worst_in_it_however_good_elsewhere():
    reference = torch.zeros(1, 3, 100, 100)
    reference[:, 0], reference[:, 0, :40], reference[:, 1, :40] = 1, 0, 1
    reference[:, 1, :10, :10], reference[:, 2, :10, :10] = 0, 1
    thick, without = reference.clone(), reference.clone()
    thick[:, 0, 40:45], thick[:, 1, 40:45] = 0, 1
    without[:, 2], without[:, 0, :10, :10] = 0, 1
    valid = torch.ones(1, 1, 100, 100)
    for networks in ((thick, without), (without, thick)):
        found = worst_prediction(networks, reference, valid)
        assert found[:, 2].sum() == 0
        assert torch.equal(found[:, 1], thick[:, 1])
    nothing = torch.zeros_like(reference)  # of regions: an image without any
    assert torch.equal(worst_prediction((nothing, thick), nothing, valid), thick)


def test_closed_gate_leaves_unlabeled_patches_alone():
    method, student = make_method("mean_teacher")
    labeled, unlabeled = make_batches(with_pseudo=False)
    driver = make_pass(method, {"dice": 0.95})
    driver.step = 1  # no measurement is due
    calls = count_calls(method.teacher.network)
    student.seen.clear()
    assert not list(driver.losses(student, labeled, unlabeled, NOW))
    assert not calls
    assert not student.seen
    assert driver.log["unlabeled_weight"] == 0.0  # the ramp begins where the gate opens
    assert driver.log["unlabeled_weighted"] == 0.0


def test_an_unlabeled_batch_is_needed_once_a_term_can_be_learned():
    driver, student = pixelwise(gate={"start": "all"}, start=0.5)
    assert not driver.needs_unlabeled(0.4)
    assert not driver.needs_unlabeled(NOW)  # the schedule has begun, and no class is known
    assert total_of(driver, student, labeled_stripes(), None) is None
    assert driver.gate.is_open()  # the labeled patches were measured
    assert driver.log["unlabeled_weighted"] == 0.0
    assert driver.needs_unlabeled(NOW)
    assert not driver.needs_unlabeled(0.4)


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, False),
        ({"labeled_mix_probability": 0.5}, False),
        ({"histogram_matching_probability": 0.5}, True),
    ],
)
def test_what_is_learned_behind_a_closed_gate_needs_unlabeled_batches(settings, needs):
    driver, _ = pixelwise(**settings)
    assert driver.needs_unlabeled(NOW) == needs


def test_stored_pseudo_labels_need_unlabeled_batches_behind_a_closed_gate():
    driver, _ = pixelwise()
    driver.pseudo_labels = StoredPseudoLabels(driver.labels)
    assert driver.needs_unlabeled(NOW)


def test_a_method_with_a_loss_of_its_own_has_an_unlabeled_batch_in_every_step_unless_it_says_otherwise():
    class Discriminating(MeanTeacher):
        def owned_loss(self, student, labeled, unlabeled, progress):
            return unlabeled.weak.mean()

    driver, _ = pixelwise()
    driver.method = Discriminating(driver.settings, driver.labels)
    assert driver.needs_unlabeled(NOW)
    method, _ = make_method("cps")
    assert not make_pass(method, {"dice": 0.95}).needs_unlabeled(NOW)


def test_numbers_of_a_step_and_further_scalars_are_read_together():
    driver, student = pixelwise()
    total_of(driver, student, labeled_stripes(), same(stripes()))
    numbers, others = driver.read_log(torch.tensor(0.25), torch.tensor(3.0, dtype=torch.float64))
    assert numbers == driver.log
    assert others == [0.25, 3.0]


def test_agreement_is_measured_with_the_labels_and_not_at_every_step():
    driver, student = pixelwise(gate={"measure_every": 2}, cutmix_probability=0.0)
    counted = []
    for _ in range(4):
        total_of(driver, student, labeled_stripes(), same(stripes()))
        counted.append(driver.gate.agreement.size.sum().item())
    assert counted[0] == counted[1] == 2 * 48
    assert counted[2] == counted[3] > counted[0]


def test_number_of_steps_is_part_of_the_state():
    driver, student = pixelwise()
    for _ in range(3):
        total_of(driver, student, labeled_stripes(), same(stripes()))
    other, _ = pixelwise()
    other.load_state_dict(driver.state_dict())
    assert other.step == 3


def test_gate_opens_for_the_classes_that_the_network_finds():
    driver, student = pixelwise(loss="cross_entropy")
    predicted = stripes().clone()
    predicted[predicted == 2] = 0  # the teacher takes class 2 for background
    labeled = one_level(logits_of(predicted), stripes()[:, None], num_random=1)
    total_of(driver, student, labeled, same(predicted))
    assert driver.gate.class_weights().tolist() == [0.0, 1.0, 0.0]
    assert driver.log["labeled_dice_1"] == pytest.approx(1.0)
    assert driver.log["labeled_dice_2"] == 0.0
    assert driver.log["unlabeled_confidence"] == pytest.approx(1.0)  # class 1, and "not class 1" everywhere else


def test_a_class_that_the_teacher_does_not_know_is_not_unlearned():
    """Where the teacher sees background, a student that sees the unknown class 2 is not pulled to the background."""
    driver, student = pixelwise(cutmix_probability=0.0)
    predicted = stripes().clone()
    predicted[predicted == 2] = 0
    labeled = one_level(logits_of(predicted), stripes()[:, None], num_random=1)
    strong = logits_of(stripes(), strength=3.0).requires_grad_()
    total_of(driver, student, labeled, UnlabeledBatch(logits_of(predicted), strong)).backward()
    for_class_2 = -strong.grad[:, 2][stripes() == 2]
    assert (for_class_2 > 0).all()  # away from class 1, to where it already is
    assert (for_class_2 > -strong.grad[:, 0][stripes() == 2]).all()


def test_area_prior_makes_a_class_inactive_that_floods_the_unlabeled_image():
    driver, student = pixelwise(gate={"area_factor": 1.5, "measure_every": 1})
    for _ in range(2):  # one patch alone would say nothing
        total_of(driver, student, labeled_stripes(), same(torch.ones_like(stripes())))
    # class 1 takes three times its share of 1/3: weight 1.5 / 3; class 2 vanished: weight 0, background with it
    assert driver.gate.class_weights().tolist() == pytest.approx([0.0, 0.5, 0.0], abs=1e-6)
    assert driver.log["unlabeled_confidence"] == pytest.approx(0.5)


def test_shares_count_patches_drawn_at_random_only():
    driver, student = pixelwise()
    target = stripes().clone()
    target[1] = 1  # drawn for its foreground
    labeled = one_level(logits_of(target), target[:, None], num_random=1)
    total_of(driver, student, labeled, UnlabeledBatch(labeled.data, labeled.data, num_random=1))
    for kind in ("labeled", "unlabeled"):
        assert driver.gate.area.shares(kind).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_areas_are_of_the_target_before_it_is_mixed():
    driver, student = pixelwise(cutmix_probability=1.0)
    labels = torch.stack([torch.zeros(4, 6), torch.ones(4, 6)]).long()
    unlabeled = UnlabeledBatch(logits_of(labels), logits_of(labels), num_random=1)
    total_of(driver, student, labeled_stripes(), unlabeled)
    assert driver.gate.area.shares("unlabeled").tolist() == [1.0, 0.0, 0.0]


def test_ignored_voxels_count_neither_for_the_gate_nor_for_the_prior():
    driver, student = pixelwise()
    target = stripes().clone()
    target[:, 1:] = K  # nnU-Net's ignore label: one row of four is annotated
    wrong = stripes().clone()
    wrong[:, 1:] = 1  # the teacher errs where nobody looked
    labeled = one_level(logits_of(wrong), target[:, None])
    total_of(driver, student, labeled, same(stripes()))
    assert driver.gate.labeled_dice.dice().tolist() == [1.0, 1.0, 1.0]
    assert driver.gate.area.shares("labeled").tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert driver.gate.class_weights().tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_regions_become_active_one_by_one_and_ignore_counts_for_none():
    driver, student = pixelwise(has_regions=True, loss="mse", cutmix_probability=0.0)
    label = torch.zeros(2, K + 1, 4, 6, dtype=torch.bool)
    label[:, 0, :, :4], label[:, 1, :, :2], label[:, 2, :, 4:] = True, True, True
    label[:, K, 3] = True  # the last row is ignored
    predicted = label[:, :K].float()
    predicted[:, 2] = 0.0  # the teacher does not find the third region
    predicted[:, :2, 3] = 0.0  # and predicts nothing where nobody looked
    data = 40.0 * (predicted - 0.5)
    strong = torch.zeros_like(data).requires_grad_()
    total = total_of(driver, student, one_level(data, label), UnlabeledBatch(data, strong))
    assert driver.gate.labeled_dice.dice().tolist() == [1.0, 1.0, 0.0]
    assert driver.gate.class_weights().tolist() == pytest.approx([1.0, 1.0, 0.0])
    total.backward()
    assert [bool(strong.grad[:, k].abs().sum() > 0) for k in range(K)] == [True, True, False]
    # two of three regions, each off by 1/2
    assert driver.log["unlabeled_loss"] == pytest.approx(2 * 0.25 / 3, rel=1e-3)


def test_estimated_dice_is_the_agreement_once_views_were_compared():
    driver, student = pixelwise(cutmix_probability=0.0)
    assert driver.gate.estimated_dice() == 0.0
    predicted = stripes().clone()
    predicted[predicted == 2] = 0
    labeled = one_level(logits_of(predicted), stripes()[:, None])
    total_of(driver, student, labeled, same(stripes()), progress=0.0)
    strong = stripes().clone()
    strong[:, :2] = 0  # of each foreground class, the student finds half on the strong view
    driver, student = pixelwise(cutmix_probability=0.0)
    total_of(driver, student, labeled, UnlabeledBatch(logits_of(stripes()), logits_of(strong)))
    assert driver.log["estimated_dice"] == pytest.approx(2 * 0.5 / 1.5)


# ------------------------------------------------------------------------------------------------------------ the start


def test_nothing_is_learned_before_every_class_was_active_once():
    driver, student = pixelwise(gate={"start": "all"})
    partly = stripes().clone()
    partly[partly == 2] = 0
    knows_one = one_level(logits_of(partly), stripes()[:, None], num_random=1)
    assert total_of(driver, student, knows_one, same(stripes())) is None
    assert not driver.gate.state_dict()["started"]


def test_once_started_a_lost_class_does_not_stop_the_others():
    driver, student = pixelwise(gate={"start": "all"})
    assert total_of(driver, student, labeled_stripes(), same(stripes())) is not None
    driver.gate.labeled_dice.overlap[2] = 0.0  # the teacher loses class 2; no measurement is due
    assert total_of(driver, student, labeled_stripes(), same(stripes())) is not None
    other, _ = pixelwise(gate={"start": "all"})
    other.gate.load_state_dict(driver.gate.state_dict())
    assert other.gate.started


# ------------------------------------------------------------------------------------------- confidence and mixing


def test_uncertain_voxels_lower_the_logged_confidence():
    driver, student = pixelwise(gate={"dice": 0.0, "area_factor": 1e6}, confidence=0.9)
    weak = logits_of(stripes())
    weak[:, :, 0] = logits_of(stripes()[:, 0], strength=1.0)  # softmax (1, 0, 0): 0.58
    total_of(driver, student, labeled_stripes(), UnlabeledBatch(weak, weak))
    assert driver.log["unlabeled_confidence"] == pytest.approx(0.75)
    driver, student = pixelwise(True, gate={"dice": 0.0, "area_factor": 1e6}, confidence=0.9)
    data = torch.full((1, K, 2, 2), 20.0)
    data[:, 1, 0, 0] = 0.1  # one region is unsure of one voxel
    labeled = one_level(data, torch.ones(1, K, 2, 2, dtype=torch.bool), 1)
    total_of(driver, student, labeled, UnlabeledBatch(data, data))
    assert driver.log["unlabeled_confidence"] == pytest.approx(0.75)


class Seeing(Pixelwise):
    def forward(self, x):
        self.shown = x.detach()
        return super().forward(x)


def test_target_is_mixed_with_the_strong_view():
    """Teacher, student and both views agree: only a target that is not mixed along would disagree."""
    driver, _ = pixelwise(gate={"dice": 0.0}, loss="mse", cutmix_probability=1.0)
    labels = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.full((8, 8), 2.0)]).long()
    views, student = logits_of(labels, 3.0), Seeing()
    total_of(driver, student, one_level(views, labels[:, None], 3), UnlabeledBatch(views, views.clone()))
    assert not torch.equal(student.shown, views)
    assert driver.log["unlabeled_loss"] == pytest.approx(0.0, abs=1e-10)


def test_one_patch_is_not_mixed_with_itself():
    driver, _ = pixelwise(gate={"dice": 0.0}, cutmix_probability=1.0)
    data, student = logits_of(stripes()[:1]), Seeing()
    total_of(driver, student, one_level(data, stripes()[:1, None], 1), UnlabeledBatch(data, data))
    assert torch.equal(student.shown, data)


def test_terms_that_are_mixed_already_are_left_as_they_are():
    method = Scripted(lambda unlabeled: [term_of(unlabeled, mixable=False)], cutmix_probability=1.0)
    student, unlabeled = Seeing(), UnlabeledBatch(torch.zeros(2, K, 4, 6), torch.randn(2, K, 4, 6))
    list(make_pass(method).losses(student, labeled_stripes(), unlabeled, NOW))
    assert torch.equal(student.shown, unlabeled.strong)


def test_everything_of_a_term_is_mixed_alike():
    values = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    mask = torch.tensor([[True, False], [False, False]]).expand(2, 1, 2, 2)
    term = UnlabeledTerm(values, values, values, PseudoLabel(values, values, values), annotated=values.bool()).mixed(
        mask
    )
    expected = torch.where(mask, 1 - values, values)
    for mixed in (term.images, term.target, term.confidence, *vars(term.pseudo).values()):
        assert torch.equal(mixed, expected)
    assert torch.equal(term.annotated, expected.bool())


def test_pasted_voxels_of_labeled_patches_have_their_label_as_target_with_full_weight_and_no_pseudo_label():
    images, target = torch.zeros(2, 1, 2, 2), torch.full((2, 3, 2, 2), 1 / 3)
    pseudo = PseudoLabel(target, torch.ones(2, 1, 2, 2))
    term = UnlabeledTerm(images, target, torch.full((2, 1, 2, 2), 0.4), pseudo)
    mask = torch.tensor([[[[True, False], [False, False]]], [[[False, False], [True, True]]]])
    label = torch.zeros(2, 3, 2, 2).index_fill_(1, torch.tensor(2), 1.0)
    valid = torch.ones(2, 1, 2, 2).index_fill_(3, torch.tensor(1), 0.0)  # the ignore label on the right
    pasted = term.with_labeled(images + 7, label, valid, mask)
    assert pasted.images[:, 0].tolist() == [[[7, 0], [0, 0]], [[0, 0], [7, 7]]]
    assert pasted.confidence[:, 0].flatten().tolist() == pytest.approx([1, 0.4, 0.4, 0.4, 0.4, 0.4, 1, 0])
    assert pasted.pseudo.confidence[:, 0].flatten().tolist() == [0, 1, 1, 1, 1, 1, 0, 0]
    assert torch.equal(pasted.target[mask.expand(2, 3, 2, 2)], label[mask.expand(2, 3, 2, 2)])
    assert torch.equal(pasted.target[~mask.expand(2, 3, 2, 2)], target[~mask.expand(2, 3, 2, 2)])
    assert torch.equal(pasted.annotated, mask)


def test_boxes_of_labeled_patches_teach_their_labels_whatever_the_teacher_says():
    """The teacher sees class 0 everywhere and the labels say 2: the gate refuses the one and not the other."""
    driver, _ = pixelwise(gate={"dice": 0.0}, cutmix_probability=0.0, labeled_mix_probability=1.0)
    zeros = torch.zeros(2, 8, 8, dtype=torch.long)
    wrong_views, student = logits_of(zeros, 9.0), Seeing()
    labeled = one_level(torch.full((2, K, 8, 8), 5.0), torch.full((2, 1, 8, 8), 2), 2)
    total_of(driver, student, labeled, UnlabeledBatch(wrong_views, wrong_views.clone()))
    pasted = (student.shown == 5.0).all(1)
    assert 0 < pasted.float().mean() < 1
    share = float(pasted.float().mean())
    # the area prior refuses what the teacher says; equal logits on pasted voxels cost log(3) each, and have a Dice of
    # 2 * (1/3) / (1/3 + 1) = 1/2
    assert driver.log["unlabeled_loss"] == pytest.approx(share * math.log(3) + 0.5, abs=1e-4)
    assert driver.log["unlabeled_confidence"] == pytest.approx(share)


# --------------------------------------------------------------------------------------------------- pseudo-label term


@pytest.mark.parametrize("has_regions", [False, True])
def test_the_teacher_is_not_learned_against_a_confident_pseudo_label(has_regions):
    driver, student = pixelwise(has_regions, gate={"dice": 0.0, "area_factor": 1e6}, cutmix_probability=0.0)
    views = logits_of(stripes()) - 10.0  # probabilities 1 and 0 for softmax and for sigmoid
    target = torch.eye(K)[stripes()].movedim(-1, 1)
    target[:, :, 0, :2] = torch.eye(K)[1][:, None]  # the pseudo-label is 1 where the teacher's is 0
    confidence = torch.ones(2, 1, 4, 6)
    confidence[:, :, 0, 1] = 0.0  # without confidence here
    labeled = one_level(views, target.bool() if has_regions else stripes()[:, None])
    unlabeled = UnlabeledBatch(views, views.clone(), PseudoLabel(target, confidence))
    total_of(driver, student, labeled, unlabeled)
    assert driver.log["unlabeled_confidence"] == pytest.approx(23 / 24)  # one voxel of 24 in each patch


def test_pseudo_label_term_by_hand():
    """A term of weight 0.5 on half of the voxels: the log shows raw loss, weight, product and share."""
    target = torch.eye(K)[stripes()].movedim(-1, 1)
    confidence = torch.zeros(2, 1, 4, 6)
    confidence[:, :, :2] = 1.0
    unlabeled = UnlabeledBatch(torch.zeros(2, K, 4, 6), torch.zeros(2, K, 4, 6), PseudoLabel(target, confidence))
    method = Scripted(lambda batch: [term_of(batch, pseudo=batch.pseudo)], cutmix_probability=0.0, weight=0.0)
    driver = make_pass(method, pseudo_labels=StoredPseudoLabels(method.labels, weight=0.5))
    (loss,) = driver.losses(Pixelwise(), labeled_stripes(), unlabeled, NOW)
    # probability 1/3: cross entropy log 3 on half of the voxels; Dice of each class 2 * (8/3) / (8 + 24/3) = 1/3
    raw = math.log(3) / 2 + 1 - 1 / 3
    assert driver.log["pseudo_label_loss"] == pytest.approx(raw, rel=1e-4)
    assert driver.log["pseudo_label_weight"] == 0.5
    assert driver.log["pseudo_label_weighted"] == pytest.approx(0.5 * raw, rel=1e-4)
    assert driver.log["pseudo_label_confident"] == pytest.approx(0.5)
    assert loss.item() == pytest.approx(0.5 * raw, rel=1e-4)
    assert driver.log["unlabeled_loss"] == 0.0


# ----------------------------------------------------------------------------------------------------- deep supervision


class ThreeLevels(Pixelwise):
    """Returns its images as logits at full, half and quarter resolution, shifted by the level."""

    def forward(self, x):
        fine = super().forward(x)
        return [fine, fine[:, :, ::2, ::2], fine[:, :, ::4, ::4]]


def error_of(logits: torch.Tensor, target: torch.Tensor) -> float:
    """The mean squared error of probabilities, in plain numpy."""
    logits, target = logits.detach().numpy().astype(np.float64), target.numpy()
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(((probs - target) ** 2).mean())


@pytest.mark.parametrize("deep", [False, True])
def test_a_term_is_learned_at_all_levels_with_the_weights_of_nnunet_if_the_settings_say_so(deep):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, K, 8, 8), generator=generator)
    target = torch.randn((2, K, 8, 8), generator=generator).softmax(1)
    term = UnlabeledTerm(images, target, torch.ones(2, 1, 8, 8))
    method = Scripted(lambda _: [term], cutmix_probability=0.0, deep_supervision=deep)
    method.settings = replace(method.settings, loss="mse")
    driver, student = make_pass(method), ThreeLevels()
    (loss,) = driver.losses(student, labeled_stripes(), patches(), NOW)
    fine, half, _ = (level / 1.0 for level in student(images))
    nearest = target[:, :, 1::2, 1::2]  # the centre of two voxels lies between them: the second is taken
    expected = error_of(fine, target)
    if deep:  # weights 1, 1/2 and 0, normalised
        expected = 2 / 3 * expected + 1 / 3 * error_of(half, nearest)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert driver.log["unlabeled_loss"] == pytest.approx(error_of(fine, target), rel=1e-5)  # of the finest level


def test_everything_of_a_term_is_brought_to_the_resolution_of_a_level():
    values = torch.arange(16.0).view(1, 1, 4, 4)
    term = UnlabeledTerm(values, values, values, PseudoLabel(values, values, values), annotated=values > 7).at_shape(
        (2, 2)
    )
    for part in (term.target, term.confidence, *vars(term.pseudo).values()):
        assert part.flatten().tolist() == [5, 7, 13, 15]
    assert term.annotated.flatten().tolist() == [False, False, True, True]
    assert term.images.shape == (1, 1, 4, 4)


def test_classes_that_were_active_before_the_start_of_the_method_are_not_waited_for_again():
    method, _ = make_method("mean_teacher", start=0.5)
    driver = make_pass(method, {"dice": 0.5, "width": 0.1, "start": "all"})
    right = torch.eye(K).view(1, K, K, 1)  # each class once
    driver.gate.labeled_dice.measure(right, right)
    assert not driver.needs_unlabeled(0.2)
    for _ in range(50):  # class 2 is lost
        driver.gate.labeled_dice.measure(right * torch.tensor([1.0, 1.0, 0.0]).view(1, K, 1, 1), right)
    assert driver.needs_unlabeled(0.5)


def test_a_gate_that_opened_before_the_start_lets_the_ramp_begin_at_the_start():
    driver, student = pixelwise(
        gate={"dice": 0.5, "start": "any"}, start=0.2, rampup=0.2, ramp_from="gate", cutmix_probability=0.0
    )
    unlabeled = UnlabeledBatch(logits_of(stripes()), torch.zeros(2, K, 4, 6))
    assert total_of(driver, student, labeled_stripes(), unlabeled, 0.1) is None  # measured, but before the start
    assert total_of(driver, student, labeled_stripes(), unlabeled, 0.2) is not None
    assert driver.log["unlabeled_weight"] == pytest.approx(0.006737947)  # exp(-5)
    assert total_of(driver, student, labeled_stripes(), unlabeled, 0.4) is not None
    assert driver.log["unlabeled_weight"] == 1.0
