import pytest
import torch
from tiny_students import build_host
from torch import nn

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import MeanTeacher
from nnunet_semisam.training.deployment import DeployedWeights


class Shared(nn.Module):
    """One weight under two names, as nnU-Net's networks have it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.all_modules = nn.Sequential(self.conv)
        self.register_buffer("mean", torch.tensor(value))
        nn.init.constant_(self.conv.weight, value)


def method_with_teacher(student: Shared, deploy: str) -> MeanTeacher:
    labels = Labels.of_classes(2)
    method = MeanTeacher(MeanTeacher.Settings(deploy=deploy), labels)
    method.setup(student, build_host(labels, lambda: Shared(0.0)))
    with torch.no_grad():
        method.teacher.network.conv.weight.fill_(5.0)
        method.teacher.network.mean.fill_(6.0)
    return method


def values(network: Shared) -> tuple[float, float]:
    return network.conv.weight.mean().item(), network.mean.item()


def test_teacher_stands_in_for_the_student_and_goes_again():
    student = Shared(1.0)
    method = method_with_teacher(student, "teacher")
    with DeployedWeights(student, method):
        assert values(student) == (5.0, 6.0)
    assert values(student) == (1.0, 1.0)
    assert values(method.teacher.network) == (5.0, 6.0)


def test_student_comes_back_after_an_error():
    student = Shared(1.0)
    deployed = DeployedWeights(student, method_with_teacher(student, "teacher"))
    with pytest.raises(RuntimeError, match="validation failed"), deployed:
        raise RuntimeError("validation failed")
    assert values(student) == (1.0, 1.0)


def test_student_is_not_lost_when_the_weights_are_put_in_twice():
    student = Shared(1.0)
    deployed = DeployedWeights(student, method_with_teacher(student, "teacher"))
    deployed.put()
    deployed.put()
    deployed.restore()
    assert values(student) == (1.0, 1.0)
    deployed.restore()  # nothing is kept any more: nothing happens
    assert values(student) == (1.0, 1.0)


def test_deployed_student_is_left_as_it_is():
    student = Shared(1.0)
    with DeployedWeights(student, method_with_teacher(student, "student")) as deployed:
        assert values(student) == (1.0, 1.0)
        assert deployed.deployed is student


def test_optimizer_still_moves_the_student_afterwards():
    student = Shared(1.0)
    weight = student.conv.weight
    with DeployedWeights(student, method_with_teacher(student, "teacher")):
        pass
    assert student.conv.weight is weight


def test_shared_weights_are_kept_aside_once():
    student = Shared(1.0)
    deployed = DeployedWeights(student, method_with_teacher(student, "teacher"))
    deployed.put()
    kept = deployed._student
    assert kept["conv.weight"].data_ptr() == kept["all_modules.0.weight"].data_ptr()
    assert kept["conv.weight"].data_ptr() != student.conv.weight.data_ptr()
