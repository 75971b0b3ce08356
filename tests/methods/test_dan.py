import math
from dataclasses import replace

import pytest
import torch
from tiny_students import NOW, loader_batches, make_batches, make_method, make_pass, make_step

from nnunet_semisam.methods.parts.discriminator import Discriminator


@pytest.mark.parametrize("dims", [2, 3])
def test_discriminator_gives_one_logit_for_a_patch_of_any_size(dims):
    discriminator = Discriminator(channels=4, spatial_dims=dims)
    for size in (8, 20):
        spatial = [size] * dims
        assert discriminator(torch.rand(2, 3, *spatial), torch.rand(2, 1, *spatial)).shape == (2,)


def constant(method, logit: float) -> None:
    """Make the discriminator say the same of every patch."""
    torch.nn.init.zeros_(method.discriminator.head.weight)
    torch.nn.init.constant_(method.discriminator.head.bias, logit)


def test_discriminator_learns_that_labeled_patches_are_one_and_unlabeled_ones_zero():
    method, student = make_method("dan")
    constant(method, 2.0)
    loss = method.owned_loss(student, *make_batches(), NOW)
    says_labeled = 1 / (1 + math.exp(-2))
    assert loss.item() == pytest.approx(-(math.log(says_labeled) + math.log(1 - says_labeled)) / 2, rel=1e-5)


def test_student_is_rewarded_for_passing_as_labeled():
    method, student = make_method("dan", weight=0.1)
    constant(method, 2.0)
    labeled, unlabeled = make_batches(with_pseudo=False)
    (loss,) = make_pass(method).losses(student, labeled, unlabeled, NOW)
    assert loss.item() == pytest.approx(0.1 * math.log(1 + math.exp(-2)), rel=1e-5)


def test_discriminator_tells_patches_apart_after_some_steps():
    torch.manual_seed(0)
    method, student = make_method("dan", weight=0.0, discriminator_lr=0.01)
    labeled, unlabeled = make_batches()
    shifted = type(unlabeled)(unlabeled.weak, unlabeled.strong + 4, None, unlabeled.strong2)
    step = make_step(make_pass(method), student)
    before = method.owned_loss(student, labeled, shifted, NOW).item()
    for _ in range(30):
        step(*loader_batches(labeled, shifted), NOW)
    assert method.owned_loss(student, labeled, shifted, NOW).item() < 0.5 * before


def test_both_sides_are_random_patches_and_the_student_is_compared_in_another_view():
    method, student = make_method("dan")
    labeled, unlabeled = make_batches(with_pseudo=False)
    seen = []
    method.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    method.owned_loss(student, replace(labeled, num_random=1), replace(unlabeled, num_random=1), NOW)
    assert torch.equal(seen[0], labeled.data[:1])
    assert torch.equal(seen[1], unlabeled.strong[:1])
    (term,) = method.terms(student, labeled, unlabeled, NOW)
    assert term.images is unlabeled.strong
    torch.testing.assert_close(term.target, method.predict(student, unlabeled.weak))
