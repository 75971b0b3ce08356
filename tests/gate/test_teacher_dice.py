import pytest
import torch

from nnunet_semisam.gate.teacher_dice import MEMORY, WIDTH, MaturityGate, merge_rest, named_classes


def one_hot(labels: list[int], classes: int = 3) -> torch.Tensor:
    return torch.eye(classes)[torch.tensor(labels)].T.reshape(1, classes, 1, -1)


def valid(labels: list[int]) -> torch.Tensor:
    return torch.ones(1, 1, 1, len(labels))


def measure(gate: MaturityGate, prediction: list[int], truth: list[int]) -> None:
    gate.measure(one_hot(prediction), one_hot(truth), valid(truth))


def test_dice_per_class_by_hand():
    gate = MaturityGate(3, 0.6, has_regions=False)
    measure(gate, [0, 0, 1, 1, 2, 0], [0, 0, 1, 2, 2, 2])
    assert gate.dice().tolist() == pytest.approx([2 * 2 / 5, 2 * 1 / 3, 2 * 1 / 4])


def test_dice_is_of_pooled_counts_that_fade():
    gate = MaturityGate(3, 0.6, has_regions=False)
    measure(gate, [1, 1, 1, 1], [1, 1, 1, 1])  # overlap 4, size 8
    measure(gate, [0, 0], [1, 1])  # overlap 0, size 2
    assert gate.dice()[1].item() == pytest.approx(2 * MEMORY * 4 / (MEMORY * 8 + 2))


def test_class_that_was_never_seen_is_silent():
    gate = MaturityGate(3, 0.6, has_regions=False)
    assert gate.dice().tolist() == [0, 0, 0]
    measure(gate, [0, 1], [0, 1])
    assert gate.dice().tolist() == [1, 1, 0]
    assert gate.class_trust().tolist() == [0, 1, 0]  # and the background waits for it


def test_each_class_speaks_when_it_is_found_and_the_background_last():
    gate = MaturityGate(3, 0.6, has_regions=False)
    gate.size[:] = 2.0
    gate.overlap[:] = torch.tensor([1.0, 0.6 + WIDTH / 4, 0.6])
    torch.testing.assert_close(gate.class_trust(), torch.tensor([0.0, 0.25, 0.0]))
    gate.overlap[1:] = torch.tensor([0.99, 0.6 + WIDTH / 2])
    torch.testing.assert_close(gate.class_trust(), torch.tensor([0.5, 1.0, 0.5]))
    gate.overlap[2] = 0.6 + WIDTH
    torch.testing.assert_close(gate.class_trust(), torch.ones(3))


def test_regions_have_no_background_and_do_not_wait():
    gate = MaturityGate(2, 0.6, has_regions=True)
    gate.size[:] = 2.0
    gate.overlap[:] = torch.tensor([0.8, 0.1])
    assert gate.class_trust().tolist() == [1.0, 0.0]


def test_threshold_zero_lets_everything_speak_at_once():
    assert MaturityGate(3, 0.0, has_regions=False).class_trust().tolist() == [1, 1, 1]


def test_ignored_voxels_do_not_count():
    gate, other = MaturityGate(3, 0.6, False), MaturityGate(3, 0.6, False)
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 4)
    gate.measure(one_hot([0, 1, 1, 2]), one_hot([0, 1, 2, 1]) * mask, mask)
    measure(other, [0, 1, 2], [0, 1, 1])
    assert torch.equal(gate.dice(), other.dice())


def test_state_is_restored(tmp_path):
    gate, other = MaturityGate(3, 0.6, False), MaturityGate(3, 0.6, False)
    measure(gate, [0, 1, 2, 2], [0, 1, 1, 2])
    torch.save(gate.state_dict(), tmp_path / "gate.pth")
    other.load_state_dict(torch.load(tmp_path / "gate.pth", weights_only=True))
    measure(gate, [0, 2], [1, 2])
    measure(other, [0, 2], [1, 2])
    assert torch.equal(gate.dice(), other.dice())
    assert gate.dice().sum() > 0


def test_rest_is_background_and_every_unnamed_class():
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])).view(1, 4, 1)
    target = torch.tensor([0.1, 0.6, 0.2, 0.1]).view(1, 4, 1)
    named = named_classes(torch.tensor([0.0, 0.1, 0.9, 0.6]))
    torch.testing.assert_close(named, torch.tensor([0.6, 0.0, 0.9, 0.6]))
    merged, merged_target = merge_rest(logits, target, named)
    torch.testing.assert_close(merged.softmax(1).view(-1), torch.tensor([0.7, 0.0, 0.2, 0.1]))
    torch.testing.assert_close(merged_target.view(-1), torch.tensor([0.7, 0.0, 0.2, 0.1]))


def test_nothing_is_merged_when_every_class_has_a_name():
    logits, target = torch.randn(2, 3, 4), torch.rand(2, 3, 4)
    merged, merged_target = merge_rest(logits, target, named_classes(torch.tensor([0.0, 0.7, 1.0])))
    assert merged is logits
    assert merged_target is target


def test_without_a_named_class_nothing_is_trusted():
    assert named_classes(torch.tensor([1.0, 0.4, 0.3])).tolist() == [0, 0, 0]


def test_the_rest_does_not_teach_that_an_unnamed_class_is_background():
    """Background and unnamed class share a gradient: moving probability between them costs nothing."""
    logits = torch.tensor([2.0, 1.0, 0.5]).view(1, 3, 1).requires_grad_()
    target = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1)
    merged, merged_target = merge_rest(logits, target, named_classes(torch.tensor([0.0, 0.0, 1.0])))
    (-(merged_target * merged.log_softmax(1)).sum()).backward()
    gradient = logits.grad.view(-1)
    share = torch.tensor([2.0, 1.0]).softmax(0)
    torch.testing.assert_close(gradient[:2] / gradient[:2].sum(), share)  # both rise, each by its own share
    assert gradient[2] > 0
