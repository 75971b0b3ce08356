import torch
from tiny_students import NOW, Pixelwise, labeled_stripes, labels_of, logits_of, stripes

from nnunet_semisam.methods import FixMatch, UnlabeledBatch


def test_confident_labels_of_the_student_on_the_weak_view_are_the_target():
    method = FixMatch(FixMatch.Settings(confidence=0.95), labels_of(False))
    # logits (s, 0, 0): probability e^s / (e^s + 2) is 0.953 at 3.7 and 0.948 at 3.6
    weak = logits_of(stripes(), strength=3.7)
    weak[:, :, :2] = logits_of(stripes()[:, :2], strength=3.6)
    strong = torch.zeros_like(weak)
    (term,) = method.terms(Pixelwise(), labeled_stripes(), UnlabeledBatch(weak, strong), NOW)
    assert torch.equal(term.target, torch.eye(3)[stripes()].movedim(-1, 1))  # hard, wherever it is confident
    assert term.confidence[:, :, :2].eq(0).all()
    assert term.confidence[:, :, 2:].eq(1).all()
    assert term.images is strong


def test_published_values_are_the_defaults():
    settings = FixMatch.Settings()
    assert (settings.confidence, settings.loss) == (0.95, "cross_entropy")


def test_the_student_itself_prompts_and_is_shipped():
    method, student = FixMatch(FixMatch.Settings(), labels_of(False)), Pixelwise()
    assert method.prompting_network(student) is student
    assert method.inference_network(student) is student
    assert not method.state_parts()
