import copy

import pytest
import torch
from torch import nn

from nnunet_semisam.methods.parts.ema import MovingAverage
from nnunet_semisam.training.cpu_speed import use_bfloat16_on_cpu


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
    use_bfloat16_on_cpu(network)
    fast = network(x)
    for a, b in zip(*([o] if not deep else o for o in (exact, fast)), strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)  # bfloat16 was used
        torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)


def test_parameters_gradients_and_state_stay_float32():
    network = Net(nn.Conv2d, deep=False)
    names = list(network.state_dict())
    use_bfloat16_on_cpu(network)
    network(torch.randn(1, 1, 8, 8)).square().mean().backward()
    assert list(network.state_dict()) == names
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert network.fine.weight.grad.dtype == torch.float32
    assert network.fine.weight.grad.abs().sum() > 0


def test_teacher_can_follow_a_student_in_bfloat16():
    student, teacher = Net(nn.Conv2d, deep=False), Net(nn.Conv2d, deep=False)
    plain = copy.deepcopy(teacher)
    use_bfloat16_on_cpu(student)
    use_bfloat16_on_cpu(teacher)
    average = MovingAverage(teacher, 0.5)
    average.copy_from(student)
    plain.load_state_dict(student.state_dict())
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(average.network(x), plain(x), atol=0.05, rtol=0.05)
