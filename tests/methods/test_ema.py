import copy

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_semisam.methods.parts.ema import MovingAverage


class Counted(nn.Module):
    """A parameter, a float buffer and a counter, as batch normalisation has."""

    def __init__(self, weight: float, mean: float, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.register_buffer("mean", torch.tensor([mean]))
        self.register_buffer("count", torch.tensor(count))
        self.register_buffer("scratch", torch.tensor([weight]), persistent=False)

    def forward(self, x):
        return x * self.weight


def unet() -> PlainConvUNet:
    return PlainConvUNet(
        1,
        2,
        (4, 8),
        nn.Conv2d,
        3,
        (1, 2),
        (1, 1),
        3,
        (1,),
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
    )


def test_first_steps_forget_the_random_start_then_the_decay_holds():
    teacher = MovingAverage(Counted(100.0, 0.0, 0), decay=0.7)
    values = []
    for weight in (1.0, 3.0, 5.0, 7.0, 9.0):
        teacher.update(Counted(weight, 0.0, 0))
        values.append(teacher.network.weight.item())
    # alpha 0, 1/2, 2/3: plain means; then min(3/4, 0.7) and min(4/5, 0.7): the decay
    fourth = 0.7 * 3 + 0.3 * 7
    torch.testing.assert_close(values, [1.0, 2.0, 3.0, fourth, 0.7 * fourth + 0.3 * 9])
    assert teacher.step == 5


def test_float_buffers_are_averaged_and_counters_copied():
    teacher = MovingAverage(Counted(0.0, 0.0, 0), decay=0.9)
    teacher.step = 1000
    teacher.update(Counted(1.0, 2.0, 7))
    assert teacher.network.weight.item() == pytest.approx(0.1)
    assert teacher.network.mean.item() == pytest.approx(0.2)
    assert teacher.network.count.item() == 7
    assert teacher.network.scratch.item() == 0.0  # not part of the state


def test_every_weight_of_an_nnunet_network_moves_once_a_step():
    """The state dict of these networks holds the encoder's weights under four names each."""
    student = unet()
    teacher = MovingAverage(unet(), decay=0.9)
    teacher.copy_from(student)
    teacher.step = 1000
    before = {name: value.clone() for name, value in teacher.network.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.update(student)
    assert len(student.state_dict()) > len(before)
    for name, value in teacher.network.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.1, msg=name)


def test_teacher_is_in_eval_mode_and_gets_no_gradient():
    teacher = MovingAverage(Counted(1.0, 0.0, 0).train(), decay=0.9)
    assert not teacher.network.training
    teacher.update(Counted(2.0, 0.0, 0))
    assert not any(p.requires_grad for p in teacher.network.parameters())


def test_copy_starts_the_average_again():
    teacher = MovingAverage(Counted(0.0, 0.0, 0), decay=0.9)
    teacher.step = 50
    student = Counted(4.0, 5.0, 6)
    teacher.copy_from(student)
    assert (teacher.network.weight.item(), teacher.network.mean.item(), teacher.network.count.item()) == (4, 5, 6)
    assert teacher.step == 0
    with torch.no_grad():
        student.weight.add_(1.0)
    assert teacher.network.weight.item() == 4.0  # a copy, not the student itself


def test_state_survives_a_checkpoint(tmp_path):
    teacher, student = MovingAverage(unet(), decay=0.9), unet()
    for _ in range(3):
        teacher.update(student)
    torch.save(teacher.state_dict(), tmp_path / "state.pth")
    restored = MovingAverage(unet(), decay=0.9)
    restored.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    student = unet()
    teacher.update(student)
    restored.update(student)
    assert restored.step == teacher.step == 4
    for name, value in teacher.network.state_dict().items():
        assert torch.equal(value, restored.network.state_dict()[name]), name


def test_average_follows_a_compiled_student():
    student = Counted(3.0, 1.0, 2)
    teacher = MovingAverage(copy.deepcopy(student), decay=0.5)
    teacher.copy_from(torch.compile(student))
    teacher.step = 10
    with torch.no_grad():
        student.weight.fill_(5.0)
    teacher.update(torch.compile(student))
    assert teacher.network.weight.item() == pytest.approx(4.0)
