import pytest
import torch
from tiny_students import make_batches, make_method
from torch import nn

from nnunet_semisam.methods import LabeledBatch, MeanTeacher, PseudoLabel, UnlabeledBatch
from nnunet_semisam.methods.mean_teacher import MEASURE_EVERY, finest
from nnunet_semisam.settings.config import SemiSAMConfig

K = 3
NOW = 0.7


class Pixelwise(nn.Module):
    """Logits are the image's own channels: what a test puts in, comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.gain * x


def pixelwise(has_regions: bool = False, **settings) -> tuple[MeanTeacher, Pixelwise]:
    settings = {
        "maturity_dice": 0.5,
        "maturity_start": "any",
        "consistency_start": 0.0,
        "consistency_rampup": 0.0,
    } | settings
    method = MeanTeacher(SemiSAMConfig(**settings), K, has_regions)
    student = Pixelwise()
    method.setup(student, Pixelwise)
    return method, student


def logits_of(labels: torch.Tensor, strength: float = 20.0) -> torch.Tensor:
    """Logits ``(B, K, *S)`` that say these labels ``(B, *S)``."""
    return strength * torch.eye(K)[labels].movedim(-1, 1)


def count_calls(network: nn.Module) -> list:
    calls: list = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


def stripes() -> torch.Tensor:
    """Labels ``(2, 4, 6)``: two columns of each class."""
    return torch.tensor([0, 0, 1, 1, 2, 2]).expand(2, 4, 6)


def labeled_stripes() -> LabeledBatch:
    return LabeledBatch(logits_of(stripes()), stripes()[:, None].to(torch.int16), num_random=1)


def test_finest_output_is_the_first():
    a, b = torch.zeros(1), torch.ones(1)
    assert finest([a, b]) is a
    assert finest((a, b)) is a
    assert finest(b) is b


def test_immature_teacher_is_not_asked_about_unlabeled_patches():
    method, student = make_method("mean_teacher", 2, K, False, maturity_dice=1.0)
    labeled, unlabeled = make_batches(2, K, False, with_pseudo=False)
    method.teacher.step = 1  # no measurement is due
    calls = count_calls(method.teacher.network)
    student.seen.clear()
    terms = method.unsupervised_loss(student, labeled, unlabeled, NOW)
    assert terms.total is None
    assert not calls
    assert not student.seen
    assert terms.log["consistency_weight"] == 1.0  # the schedule is open, the gate is not
    assert terms.log["consistency_weighted"] == 0.0


def test_teacher_is_measured_every_so_many_steps_and_no_more():
    method, student = make_method("mean_teacher", 2, K, False, maturity_dice=1.0)
    labeled, unlabeled = make_batches(2, K, False, with_pseudo=False)
    calls = count_calls(method.teacher.network)
    for _ in range(2 * MEASURE_EVERY + 1):
        method.unsupervised_loss(student, labeled, unlabeled, NOW)
        method.after_step(student)
    assert len(calls) == 3


def test_gate_opens_for_the_classes_that_the_teacher_finds():
    method, student = pixelwise(consistency_loss="cross_entropy")
    said = stripes().clone()
    said[said == 2] = 0  # the teacher calls class 2 background
    labeled = LabeledBatch(logits_of(said), stripes()[:, None], num_random=1)
    terms = method.unsupervised_loss(student, labeled, UnlabeledBatch(logits_of(said), logits_of(said)), NOW)
    assert method.class_trust() == [0.0, 1.0, 0.0]
    assert terms.log["teacher_dice_1"] == pytest.approx(1.0)
    assert terms.log["teacher_dice_2"] == 0.0
    assert terms.log["consistency_trusted"] == pytest.approx(1.0)  # class 1, and "not class 1" everywhere else


def test_a_class_that_the_teacher_does_not_know_is_not_unlearned():
    """Where the teacher sees background, a student that sees the unknown class 2 is not pulled to the background."""
    method, student = pixelwise(cutmix_probability=0.0)
    said = stripes().clone()
    said[said == 2] = 0
    labeled = LabeledBatch(logits_of(said), stripes()[:, None], num_random=1)
    strong = logits_of(stripes(), strength=3.0).requires_grad_()
    method.unsupervised_loss(student, labeled, UnlabeledBatch(logits_of(said), strong), NOW).total.backward()
    for_class_2 = -strong.grad[:, 2][stripes() == 2]
    assert (for_class_2 > 0).all()  # away from class 1, to where it already is
    assert (for_class_2 > -strong.grad[:, 0][stripes() == 2]).all()


def test_area_prior_silences_a_class_that_floods_the_unlabeled_image():
    method, student = pixelwise(area_prior_factor=1.5)
    flooded = torch.ones_like(stripes())
    unlabeled = UnlabeledBatch(logits_of(flooded), logits_of(flooded))
    terms = method.unsupervised_loss(student, labeled_stripes(), unlabeled, NOW)
    # class 1 claims three times its share of 1/3: trust 1.5 / 3; class 2 vanished: trust 0, background with it
    assert method.class_trust() == pytest.approx([0.0, 0.5, 0.0], abs=1e-6)
    assert terms.log["consistency_trusted"] == pytest.approx(0.5)


def test_labeled_share_counts_patches_drawn_at_random_only():
    method, student = pixelwise()
    target = stripes().clone()
    target[1] = 1  # drawn for its foreground
    labeled = LabeledBatch(logits_of(target), target[:, None], num_random=1)
    method.unsupervised_loss(student, labeled, UnlabeledBatch(labeled.data, labeled.data), NOW)
    assert method.area.shares("labeled").tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_ignored_voxels_count_neither_for_the_gate_nor_for_the_prior():
    method, student = pixelwise()
    target = stripes().clone()
    target[:, 1:] = K  # nnU-Net's ignore label: one row of four is annotated
    wrong = stripes().clone()
    wrong[:, 1:] = 1  # the teacher errs where nobody looked
    labeled = LabeledBatch(logits_of(wrong), target[:, None], num_random=2)
    method.unsupervised_loss(student, labeled, UnlabeledBatch(logits_of(stripes()), logits_of(stripes())), NOW)
    assert method.gate.dice().tolist() == [1.0, 1.0, 1.0]
    assert method.area.shares("labeled").tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert method.class_trust() == pytest.approx([1.0, 1.0, 1.0])


def test_regions_mature_one_by_one_and_ignore_counts_for_none():
    method, student = pixelwise(has_regions=True, consistency_loss="mse", cutmix_probability=0.0)
    truth = torch.zeros(2, K + 1, 4, 6, dtype=torch.bool)
    truth[:, 0, :, :4], truth[:, 1, :, :2], truth[:, 2, :, 4:] = True, True, True
    truth[:, K, 3] = True  # the last row is ignored
    said = truth[:, :K].float()
    said[:, 2] = 0.0  # the teacher does not find the third region
    said[:, :2, 3] = 0.0  # and says nothing where nobody looked
    data = 40.0 * (said - 0.5)
    strong = torch.zeros_like(data).requires_grad_()
    terms = method.unsupervised_loss(student, LabeledBatch(data, truth, 2), UnlabeledBatch(data, strong), NOW)
    assert method.gate.dice().tolist() == [1.0, 1.0, 0.0]
    assert method.class_trust() == pytest.approx([1.0, 1.0, 0.0])
    terms.total.backward()
    assert [bool(strong.grad[:, k].abs().sum() > 0) for k in range(K)] == [True, True, False]
    assert terms.log["consistency"] == pytest.approx(2 * 0.25 / 3, rel=1e-3)  # two of three regions, each off by 1/2


def test_confidence_leaves_out_uncertain_voxels():
    method, student = pixelwise(consistency_confidence=0.9, maturity_dice=0.0, area_prior_factor=1e6)
    weak = logits_of(stripes())
    weak[:, :, 0] = logits_of(stripes()[:, 0], strength=1.0)  # softmax (1, 0, 0): 0.58
    terms = method.unsupervised_loss(student, labeled_stripes(), UnlabeledBatch(weak, weak), NOW)
    assert terms.log["consistency_trusted"] == pytest.approx(0.75)
    in_regions, student = pixelwise(True, consistency_confidence=0.9, maturity_dice=0.0, area_prior_factor=1e6)
    data = torch.full((1, K, 2, 2), 20.0)
    data[:, 1, 0, 0] = 0.1  # one region is unsure of one voxel
    labeled = LabeledBatch(data, torch.ones(1, K, 2, 2, dtype=torch.bool), 1)
    terms = in_regions.unsupervised_loss(student, labeled, UnlabeledBatch(data, data), NOW)
    assert terms.log["consistency_trusted"] == pytest.approx(0.75)


def test_target_is_mixed_with_the_strong_view():
    """Teacher, student and both views agree: only a target that is not mixed along would disagree."""
    method, student = pixelwise(consistency_loss="mse", cutmix_probability=1.0, maturity_dice=0.0)
    labels = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.full((8, 8), 2.0)]).long()
    views = logits_of(labels, 3.0)
    labeled = LabeledBatch(views, labels[:, None], 3)
    terms = method.unsupervised_loss(student, labeled, UnlabeledBatch(views, views.clone()), NOW)
    assert not torch.equal(terms.strong_logits, views)
    assert terms.log["consistency"] == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("has_regions", [False, True])
def test_the_teacher_is_not_believed_against_a_trusted_pseudo_label(has_regions):
    method, student = pixelwise(has_regions, cutmix_probability=0.0, maturity_dice=0.0, area_prior_factor=1e6)
    views = logits_of(stripes()) - 10.0  # probabilities 1 and 0 for softmax and for sigmoid
    target = torch.eye(K)[stripes()].movedim(-1, 1)
    target[:, :, 0, :2] = torch.eye(K)[1][:, None]  # the pseudo-label says 1 where the teacher says 0
    trust = torch.ones(2, 1, 4, 6)
    trust[:, :, 0, 1] = 0.0  # here it says so without being trusted
    labeled = LabeledBatch(views, target.bool() if has_regions else stripes()[:, None], 2)
    unlabeled = UnlabeledBatch(views, views.clone(), PseudoLabel(target, trust))
    terms = method.unsupervised_loss(student, labeled, unlabeled, NOW)
    assert terms.log["consistency_trusted"] == pytest.approx(23 / 24)  # one voxel of 24 in each patch


def test_one_patch_is_not_mixed_with_itself():
    method, student = pixelwise(cutmix_probability=1.0, maturity_dice=0.0)
    data = logits_of(stripes()[:1])
    labeled = LabeledBatch(data, stripes()[:1, None], 1)
    terms = method.unsupervised_loss(student, labeled, UnlabeledBatch(data, data), NOW)
    assert torch.equal(terms.strong_logits, data)


def test_weight_ramps_with_progress():
    method, student = pixelwise(
        consistency_start=0.2, consistency_rampup=0.2, consistency_weight=3.0, cutmix_probability=0.0, maturity_dice=0.0
    )
    strong = torch.zeros(2, K, 4, 6)
    unlabeled = UnlabeledBatch(logits_of(stripes()), strong)
    early, late = (method.unsupervised_loss(student, labeled_stripes(), unlabeled, p) for p in (0.2, 0.4))
    assert early.log["consistency_weight"] == pytest.approx(3 * 0.006737947)
    assert late.total.item() == pytest.approx(3 * late.log["consistency"], rel=1e-6)
    assert late.log["consistency_weighted"] == pytest.approx(3 * late.log["consistency"])
    assert early.total.item() == pytest.approx(0.006737947 * late.total.item(), rel=1e-5)


def test_expected_dice_is_the_gate_until_views_were_compared_and_then_their_agreement():
    method, student = pixelwise(cutmix_probability=0.0)
    assert method.expected_dice() == 0.0
    said = stripes().clone()
    said[said == 2] = 0
    labeled = LabeledBatch(logits_of(said), stripes()[:, None], 2)
    method._measure(labeled)
    assert method.expected_dice() == pytest.approx((1.0 + 0.0) / 2)  # mean over the foreground
    strong = stripes().clone()
    strong[:, :2] = 0  # of each foreground class, the student finds half on the strong view
    method.unsupervised_loss(student, labeled, UnlabeledBatch(logits_of(stripes()), logits_of(strong)), NOW)
    assert method.expected_dice() == pytest.approx(2 * 0.5 / 1.5)


def test_expected_dice_of_regions_counts_all_of_them():
    method, _ = pixelwise(has_regions=True)
    method.gate.overlap[:], method.gate.size[:] = torch.tensor([1.0, 1.0, 0.0]), 2.0
    assert method.expected_dice() == pytest.approx(2 / 3)


def test_teacher_follows_after_each_step_and_is_what_is_deployed():
    method, student = pixelwise()
    with torch.no_grad():
        student.gain.fill_(3.0)
    method.after_step(student)
    assert method.teacher.network.gain.item() == 3.0  # the first step copies
    assert method.deployable(student) is method.teacher.network
    assert method.opinion(student) is method.teacher.network
    other, student = pixelwise(deploy="student")
    assert other.deployable(student) is student
    assert other.opinion(student) is other.teacher.network


def says(labels: torch.Tensor) -> UnlabeledBatch:
    return UnlabeledBatch(logits_of(labels), logits_of(labels))


def test_nothing_is_said_before_every_class_was_named_once():
    method, student = pixelwise(maturity_start="all")
    partly = stripes().clone()
    partly[partly == 2] = 0
    knows_one = LabeledBatch(logits_of(partly), stripes()[:, None], num_random=1)
    assert method.unsupervised_loss(student, knows_one, says(stripes()), NOW).total is None
    assert not method.state_dict()["started"]


def test_once_started_a_lost_class_does_not_silence_the_others():
    method, student = pixelwise(maturity_start="all")
    assert method.unsupervised_loss(student, labeled_stripes(), says(stripes()), NOW).total is not None
    method.gate.overlap[2] = 0.0  # the teacher loses class 2
    method.teacher.step = 1  # no measurement at this step
    assert method.unsupervised_loss(student, labeled_stripes(), says(stripes()), NOW).total is not None
    other, _ = pixelwise(maturity_start="all")
    other.load_state_dict(method.state_dict())
    assert other.started
