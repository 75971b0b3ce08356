import copy

import pytest
import torch
from torch import nn

from nnunet_semisam.methods.parts.ema import MovingAverage
from nnunet_semisam.training.cpu_speed import speed_up_on_cpu, warning_of_bfloat16


class Net(nn.Module):
    """Two heads, as with deep supervision, or one."""

    def __init__(self, conv: type[nn.Module], deep: bool) -> None:
        super().__init__()
        self.fine, self.coarse, self.deep = conv(1, 8, 3, padding=1), conv(1, 8, 3, padding=1), deep

    def forward(self, x):
        return [self.fine(x), self.coarse(x)] if self.deep else self.fine(x)


@pytest.mark.parametrize("conv", [nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("deep", [False, True])
def test_outputs_are_float32_and_nearly_the_same(conv, deep):
    torch.manual_seed(0)
    network = Net(conv, deep)
    x = torch.randn(2, 1, *([8] * (2 if conv is nn.Conv2d else 3)))
    exact = network(x)
    speed_up_on_cpu(network, bfloat16=True)
    fast = network(x)
    for a, b in zip(*([o] if not deep else o for o in (exact, fast)), strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)  # bfloat16 was used
        torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("conv", [nn.Conv2d, nn.Conv3d])
def test_without_bfloat16_only_the_layout_of_3d_tensors_changes(conv):
    torch.manual_seed(0)
    network = Net(conv, deep=False)
    is_3d = conv is nn.Conv3d
    x = torch.randn(2, 2, *([8] * (3 if is_3d else 2)))[:, :1]
    before = network(x)
    seen = []
    network.fine.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    speed_up_on_cpu(network, bfloat16=False)
    torch.testing.assert_close(network(x), before)
    assert network.fine.weight.is_contiguous(memory_format=torch.channels_last_3d) or not is_3d
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d) if is_3d else seen[0] is x


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_without_instructions_is_told_to_leave_bfloat16_out(has, monkeypatch):
    monkeypatch.setattr("nnunet_semisam.training.cpu_speed.has_bfloat16_instructions", lambda: has)
    said = warning_of_bfloat16()
    assert said is None if has else "Set cpu_bfloat16: false" in said


def test_parameters_gradients_and_state_stay_float32():
    network = Net(nn.Conv2d, deep=False)
    names = list(network.state_dict())
    speed_up_on_cpu(network, bfloat16=True)
    network(torch.randn(1, 1, 8, 8)).square().mean().backward()
    assert list(network.state_dict()) == names
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert network.fine.weight.grad.dtype == torch.float32
    assert network.fine.weight.grad.abs().sum() > 0


def test_teacher_can_follow_a_student_in_bfloat16():
    student, teacher = Net(nn.Conv2d, deep=False), Net(nn.Conv2d, deep=False)
    plain = copy.deepcopy(teacher)
    speed_up_on_cpu(student, bfloat16=True)
    speed_up_on_cpu(teacher, bfloat16=True)
    average = MovingAverage(teacher, 0.5)
    average.copy_from(student)
    plain.load_state_dict(student.state_dict())
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(average.network(x), plain(x), atol=0.05, rtol=0.05)
