import torch

from nnunet_semisam.gate.merging import active_weights, merge_inactive


def test_inactive_classes_become_part_of_the_background():
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])).view(1, 4, 1)
    target = torch.tensor([0.1, 0.6, 0.2, 0.1]).view(1, 4, 1)
    active = active_weights(torch.tensor([0.0, 0.1, 0.9, 0.6]), active_from=0.5)
    torch.testing.assert_close(active, torch.tensor([0.6, 0.0, 0.9, 0.6]))
    merged, merged_target = merge_inactive(logits, target, active)
    torch.testing.assert_close(merged.softmax(1).view(-1), torch.tensor([0.7, 0.0, 0.2, 0.1]))
    torch.testing.assert_close(merged_target.view(-1), torch.tensor([0.7, 0.0, 0.2, 0.1]))


def test_bound_of_active_classes_is_a_setting():
    weights = torch.tensor([0.0, 0.1, 0.9, 0.6])
    assert active_weights(weights, active_from=0.05).tolist() == torch.tensor([0.1, 0.1, 0.9, 0.6]).tolist()
    torch.testing.assert_close(active_weights(weights, active_from=0.7), torch.tensor([0.9, 0.0, 0.9, 0.0]))


def test_nothing_is_merged_when_every_class_is_active():
    logits, target = torch.randn(2, 3, 4), torch.rand(2, 3, 4)
    merged, merged_target = merge_inactive(logits, target, active_weights(torch.tensor([0.0, 0.7, 1.0]), 0.5))
    assert merged is logits
    assert merged_target is target


def test_without_an_active_class_all_weights_are_zero():
    assert active_weights(torch.tensor([1.0, 0.4, 0.3]), 0.5).tolist() == [0, 0, 0]


def test_the_rest_does_not_teach_that_an_inactive_class_is_background():
    """Background and inactive class share a gradient: moving probability between them costs nothing."""
    logits = torch.tensor([2.0, 1.0, 0.5]).view(1, 3, 1).requires_grad_()
    target = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1)
    merged, merged_target = merge_inactive(logits, target, active_weights(torch.tensor([0.0, 0.0, 1.0]), 0.5))
    (-(merged_target * merged.log_softmax(1)).sum()).backward()
    gradient = logits.grad.view(-1)
    share = torch.tensor([2.0, 1.0]).softmax(0)
    torch.testing.assert_close(gradient[:2] / gradient[:2].sum(), share)  # both rise, each by its own share
    assert gradient[2] > 0
