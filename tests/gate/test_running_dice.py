import pytest
import torch

from nnunet_semisam.gate.running_dice import RunningDice

MEMORY = 0.9


def one_hot(labels: list[int], classes: int = 3) -> torch.Tensor:
    return torch.eye(classes)[torch.tensor(labels)].T.reshape(1, classes, 1, -1)


def measure(dice: RunningDice, prediction: list[int], label: list[int]) -> None:
    dice.measure(one_hot(prediction), one_hot(label))


def test_dice_per_class_by_hand():
    running = RunningDice(3, MEMORY)
    measure(running, [0, 0, 1, 1, 2, 0], [0, 0, 1, 2, 2, 2])
    assert running.dice().tolist() == pytest.approx([2 * 2 / 5, 2 * 1 / 3, 2 * 1 / 4])


def test_dice_is_of_pooled_counts_that_fade():
    running = RunningDice(3, MEMORY)
    measure(running, [1, 1, 1, 1], [1, 1, 1, 1])  # overlap 4, size 8
    measure(running, [0, 0], [1, 1])  # overlap 0, size 2
    assert running.dice()[1].item() == pytest.approx(2 * MEMORY * 4 / (MEMORY * 8 + 2))


def test_a_class_that_most_batches_lack_is_judged_by_those_that_show_it():
    """Before, a perfect Dice became 0 when its counts had faded, and a few false voxels outweighed all right ones."""
    running = RunningDice(3, MEMORY)
    measure(running, [2, 2, 2, 2, 0], [2, 2, 2, 2, 0])
    for _ in range(300):
        measure(running, [0, 1], [0, 1])
    assert running.dice()[2].item() == 1.0
    measure(running, [2, 0], [0, 0])  # one false voxel: overlap 4, size 8 + 1
    assert running.dice()[2].item() == pytest.approx(2 * 4 / 9)
    measure(running, [2, 0], [2, 0])
    assert running.dice()[2].item() == pytest.approx(2 * (MEMORY * 4 + 1) / (MEMORY * 9 + 2))


def test_without_memory_only_the_last_measurement_counts():
    running = RunningDice(3, 0.0)
    measure(running, [1, 1], [1, 1])
    measure(running, [1, 0], [1, 1])
    assert running.dice()[1].item() == pytest.approx(2 / 3)


def test_class_that_was_never_seen_has_dice_zero():
    running = RunningDice(3, MEMORY)
    assert running.dice().tolist() == [0, 0, 0]
    assert not running.measured
    measure(running, [0, 1], [0, 1])
    assert running.dice().tolist() == [1, 1, 0]
    assert running.measured


def test_ignored_voxels_do_not_count():
    running, other = RunningDice(3, MEMORY), RunningDice(3, MEMORY)
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 4)
    running.measure(one_hot([0, 1, 1, 2]), one_hot([0, 1, 2, 1]) * mask, mask)
    measure(other, [0, 1, 2], [0, 1, 1])
    assert torch.equal(running.dice(), other.dice())


def test_regions_may_overlap():
    running = RunningDice(2, MEMORY)
    whole = torch.tensor([1.0, 1.0, 1.0, 0.0])
    part = torch.tensor([0.0, 1.0, 1.0, 0.0])
    predicted = torch.tensor([0.0, 0.0, 1.0, 0.0])
    label = torch.stack([whole, part]).view(1, 2, 1, 4)
    running.measure(torch.stack([whole, predicted]).view(1, 2, 1, 4), label)
    assert running.dice().tolist() == pytest.approx([1.0, 2 / 3])


def test_state_is_restored(tmp_path):
    running, other = RunningDice(3, MEMORY), RunningDice(3, MEMORY)
    measure(running, [0, 1, 2, 2], [0, 1, 1, 2])
    torch.save(running.state_dict(), tmp_path / "dice.pth")
    other.load_state_dict(torch.load(tmp_path / "dice.pth", weights_only=True))
    measure(running, [0, 2], [1, 2])
    measure(other, [0, 2], [1, 2])
    assert torch.equal(running.dice(), other.dice())
    assert running.dice().sum() > 0
