import pytest
import torch
from tiny_students import NOW, loader_batches, make_batches, make_method, make_pass, make_step

from nnunet_semisam.methods.parts.dfe import FeatureEnhancement
from nnunet_semisam.methods.parts.networks import finest


def test_two_strong_views_follow_the_teacher_and_look_at_the_weak_view():
    method, student = make_method("sss")
    labeled, unlabeled = make_batches()
    first, second = method.terms(student, labeled, unlabeled, NOW)
    for term, images in ((first, unlabeled.strong), (second, unlabeled.strong2)):
        assert term.images is images
        assert term.companion is unlabeled.weak
        assert term.weight == 0.5
        assert set(term.target.unique().tolist()) == {0.0, 1.0}


def test_without_a_second_view_the_first_weighs_as_much_as_both():
    method, student = make_method("sss", second_view=False)
    (term,) = method.terms(student, *make_batches(), NOW)
    assert term.weight == 1.0


def test_enhancement_changes_nothing_at_first_and_learns():
    method, student = make_method("sss", dropout=0.0)
    labeled, unlabeled = make_batches()
    term = next(iter(method.terms(student, labeled, unlabeled, NOW)))
    expected = finest(student(unlabeled.strong))
    torch.testing.assert_close(finest(term.learner(unlabeled.strong, unlabeled.weak)), expected)
    step = make_step(make_pass(method), student)
    step(*loader_batches(labeled, unlabeled), NOW)
    assert all(parameter.abs().sum() > 0 for parameter in method.enhancement.parameters())


def test_enhancement_can_be_switched_off():
    method, _ = make_method("sss", enhancement=False)
    assert not method.optimizers()
    assert set(method.state_parts()) == {"teacher"}


@pytest.mark.parametrize("dims", [2, 3])
def test_similar_features_add_their_mean_and_dissimilar_ones_their_difference(dims):
    enhance = FeatureEnhancement([2], dims)
    ones = [1] * dims
    identity = torch.eye(2).view(2, 2, *ones)
    with torch.no_grad():
        enhance.of_similar[0].weight.copy_(identity)
        enhance.of_dissimilar[0].weight.copy_(10 * identity)
    first = torch.tensor([1.0, 0.0]).view(1, 2, *ones)
    same, opposite = 3 * first, -first
    found = enhance([first], [same])[0].flatten().tolist()
    assert found == pytest.approx([1 + 2, 0])  # cosine 1: all of the mean
    found = enhance([first], [opposite])[0].flatten().tolist()
    assert found == pytest.approx([1 + 10 * 2, 0])  # cosine -1: all of the difference
    across = torch.tensor([0.0, 1.0]).view(1, 2, *ones)
    found = enhance([first], [across])[0].flatten().tolist()
    assert found == pytest.approx([1 + 0.25 + 5, 0.25 - 5])  # cosine 0: half of each


def test_other_view_is_a_constant():
    enhance = FeatureEnhancement([2], 2)
    with torch.no_grad():
        enhance.of_dissimilar[0].weight.normal_()
    one, other = (torch.randn(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    enhance([one], [other])[0].sum().backward()
    assert one.grad.abs().sum() > 0
    assert other.grad is None


def test_pasted_boxes_reach_the_companion():
    method, student = make_method("sss", labeled_mix_probability=1.0, cutmix_probability=1.0)
    seen = []
    original = method.terms

    def terms(*args):
        for term in original(*args):
            learner = term.learner
            object.__setattr__(
                term, "learner", lambda images, weak, of=learner: seen.append((images, weak)) or of(images, weak)
            )
            yield term

    method.terms = terms
    labeled, unlabeled = make_batches(with_pseudo=False)
    labeled.data.fill_(9.0)
    list(make_pass(method).losses(student, labeled, unlabeled, NOW))
    assert len(seen) == 2
    for images, weak in seen:
        assert (images == 9).any()
        assert torch.equal(images == 9, weak == 9)
