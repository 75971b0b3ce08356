import pytest
import torch
from tiny_students import (
    NOW,
    K,
    Pixelwise,
    build_host,
    labeled_stripes,
    labels_of,
    logits_of,
    make_batches,
    make_method,
    stripes,
)

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.methods import MeanTeacher, UnlabeledBatch
from nnunet_semisam.methods.parts.networks import finest
from nnunet_semisam.methods.teacher import decay_of_length


def pixelwise(has_regions: bool = False, **settings) -> tuple[MeanTeacher, Pixelwise]:
    labels = labels_of(has_regions)
    method = MeanTeacher(MeanTeacher.Settings(**settings), labels)
    student = Pixelwise()
    method.setup(student, build_host(labels, Pixelwise))
    return method, student


def test_target_is_what_the_teacher_predicts_on_the_weak_view():
    method, student = pixelwise()
    with torch.no_grad():
        student.gain.fill_(7.0)  # the student's own prediction is another
    weak, strong = torch.randn(2, K, 4, 6), torch.randn(2, K, 4, 6)
    (term,) = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, strong), NOW)
    assert term.images is strong
    torch.testing.assert_close(term.target, weak.softmax(1))
    assert term.learner is None


def test_feature_dropout_changes_what_the_student_sees_and_not_the_target():
    labeled, unlabeled = make_batches()
    plain, student = make_method("mean_teacher")
    dropping, _ = make_method("mean_teacher", feature_dropout=0.5)
    dropping.teacher.network.load_state_dict(plain.teacher.network.state_dict())
    (before,) = plain.terms(student, labeled, unlabeled, NOW)
    (after,) = dropping.terms(student, labeled, unlabeled, NOW)
    torch.testing.assert_close(after.target, before.target)
    assert after.images is unlabeled.strong
    seen = finest(student(after.images))
    learned = finest(after.learner(after.images))
    assert learned.requires_grad
    assert not torch.allclose(learned, seen)
    assert not torch.allclose(finest(after.learner(after.images)), learned)  # other channels each time


class LeftIsForeground(torch.nn.Module):
    """Sees class 1 in the left half of every patch, whatever it shows: mirrored, it is the right half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bias = torch.zeros_like(images)
        bias[:, 1, :, : images.shape[-1] // 2] = 50.0
        return images + bias


def test_patches_that_the_teacher_predicts_otherwise_when_mirrored_teach_nothing():
    labels = labels_of(False)
    method = MeanTeacher(MeanTeacher.Settings(), labels)
    student = LeftIsForeground()
    method.setup(student, build_host(labels, LeftIsForeground))
    background = torch.zeros(1, K, 40, 60)
    background[:, 0] = 10.0
    (term,) = method.terms(student, labeled_stripes(), UnlabeledBatch(background, background), NOW)
    gate = ClassGate(GateSettings(), labels)
    assert gate.weighed_by_opinions(term, torch.ones(K)).confidence.max() < 1e-4
    alone = MeanTeacher(MeanTeacher.Settings(second_opinion=False), labels)
    alone.setup(student, build_host(labels, LeftIsForeground))
    (term,) = alone.terms(student, labeled_stripes(), UnlabeledBatch(background, background), NOW)
    assert term.confidence.eq(1).all()
    assert labels.hard(term.target)[0, 1, :, :30].eq(1).all()


@pytest.mark.parametrize("has_regions", [False, True])
def test_uncertain_voxels_are_not_learned(has_regions):
    method, student = pixelwise(has_regions, confidence=0.9)
    weak = logits_of(stripes()) - (10.0 if has_regions else 0.0)
    weak[:, :, 0] = logits_of(stripes()[:, 0], strength=1.0)  # softmax (1, 0, 0): 0.58; sigmoid 0.73 and 0.5
    (term,) = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, weak), NOW)
    assert term.confidence[:, :, 0].eq(0).all()
    assert term.confidence[:, :, 1:].eq(1).all()


def test_teacher_follows_after_each_step_and_is_what_is_deployed():
    method, student = pixelwise()
    with torch.no_grad():
        student.gain.fill_(3.0)
    method.after_step(student)
    assert method.teacher.network.gain.item() == 3.0  # the first step copies
    assert method.inference_network(student) is method.teacher.network
    assert method.prompting_network(student) is method.teacher.network


def test_student_can_be_deployed_while_the_teacher_prompts():
    method, student = pixelwise(deploy="student")
    assert method.inference_network(student) is student
    assert method.prompting_network(student) is method.teacher.network


def test_teacher_starts_as_the_student():
    labels = labels_of(False)
    method, student = MeanTeacher(MeanTeacher.Settings(), labels), Pixelwise()
    with torch.no_grad():
        student.gain.fill_(4.0)
    method.setup(student, build_host(labels, Pixelwise))
    assert method.teacher.network.gain.item() == 4.0
    assert list(method.state_parts()) == ["teacher"]


@pytest.mark.parametrize(("steps", "decay"), [(2_000, 0.99), (25_000, 0.99), (100_000, 1 - 1 / 400), (250_000, 0.999)])
def test_the_teacher_of_a_longer_training_remembers_longer_within_bounds(steps, decay):
    assert decay_of_length(steps) == pytest.approx(decay)
