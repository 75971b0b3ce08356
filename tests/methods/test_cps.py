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
    make_pass,
    stripes,
)

from nnunet_semisam.methods import CrossPseudoSupervision, UnlabeledBatch


def test_each_network_learns_the_hard_labels_of_the_other():
    labels = labels_of(False)
    method, student = CrossPseudoSupervision(CrossPseudoSupervision.Settings(), labels), Pixelwise()
    method.setup(student, build_host(labels, lambda deep_supervision: Pixelwise()))
    with torch.no_grad():
        method.other.gain.fill_(-1.0)  # its winner is the first of the two classes that the image denies
    weak, strong = logits_of(stripes()), torch.zeros(2, K, 4, 6)
    for_student, for_other = method.terms(student, labeled_stripes(), UnlabeledBatch(weak, strong), NOW)
    denied = torch.tensor([1, 1, 0, 0, 0, 0]).expand(2, 4, 6)
    assert for_student.learner is None
    assert torch.equal(for_student.target.argmax(1), denied)
    assert for_other.learner is method.other
    assert torch.equal(for_other.target.argmax(1), stripes())
    for term in (for_student, for_other):
        assert set(term.target.unique().tolist()) == {0.0, 1.0}
        assert term.images is strong
        assert term.confidence.eq(1).all()


def test_second_network_starts_with_other_weights_and_deep_supervision():
    method, student = make_method("cps")
    assert method.other.decoder.deep_supervision
    assert not torch.equal(method.other.head.weight, student.head.weight)
    assert method.state_parts() == {"other": method.other}
    assert method.ensemble_members == ("other",)
    assert method.prompting_network(student) is student
    assert method.inference_network(student) is student


def test_supervised_loss_of_the_second_network_by_hand():
    method, student = make_method("cps")
    labeled, unlabeled = make_batches()
    logits = method.other(labeled.data)
    expected = sum(
        -each.log_softmax(1).gather(1, level.long()).mean() for each, level in zip(logits, labeled.levels, strict=True)
    )
    assert method.owned_loss(student, labeled, unlabeled, 0.5).item() == pytest.approx(expected.item(), rel=1e-6)


def test_both_losses_are_summed_in_the_log():
    method, student = make_method("cps", cutmix_probability=0.0)
    labeled, unlabeled = make_batches(with_pseudo=False)
    driver = make_pass(method)
    losses = [loss.item() for loss in driver.losses(student, labeled, unlabeled, NOW)]
    assert len(losses) == 2
    assert driver.log["unlabeled_loss"] == pytest.approx(sum(losses), rel=1e-6)
    assert driver.log["unlabeled_confidence"] == 1.0  # a mean over the terms
