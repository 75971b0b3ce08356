"""Networks and batches small enough to be looked at voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_semisam.methods import METHODS, LabeledBatch, PseudoLabel, SSLMethod, UnlabeledBatch
from nnunet_semisam.settings.config import SemiSAMConfig

SPATIAL = {2: (12, 10), 3: (6, 8, 10)}
AT_ONCE = {"maturity_dice": 0.0, "consistency_start": 0.0, "consistency_rampup": 0.0, "area_prior_factor": 1e6}


class Student(nn.Module):
    """Convolution, norm, nonlinearity, head; a list over two levels with deep supervision, as nnU-Net's networks."""

    def __init__(self, dims: int, outputs: int, deep_supervision: bool = True) -> None:
        super().__init__()
        conv, norm = ((nn.Conv2d, nn.InstanceNorm2d), (nn.Conv3d, nn.InstanceNorm3d))[dims - 2]
        self.trunk = nn.Sequential(conv(1, 4, 3, padding=1), norm(4, affine=True), nn.LeakyReLU())
        self.head = conv(4, outputs, 1)
        self.pool = (F.avg_pool2d, F.avg_pool3d)[dims - 2]
        self.deep_supervision = deep_supervision
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.seen.append(x.detach())
        logits = self.head(self.trunk(x))
        return [logits, self.pool(logits, 2)] if self.deep_supervision else logits


def make_student(dims: int, outputs: int, seed: int = 0) -> tuple[Student, Callable[[], Student]]:
    """Return a student, and what builds fresh networks like it without deep supervision."""
    torch.manual_seed(seed)
    return Student(dims, outputs), lambda: Student(dims, outputs, deep_supervision=False)


def make_method(name: str, dims: int, outputs: int, has_regions: bool, **settings) -> tuple[SSLMethod, Student]:
    """Return a method that speaks at once, unless told otherwise, and its student."""
    method = METHODS.get(name)(SemiSAMConfig(method=name, **(AT_ONCE | settings)), outputs, has_regions)
    student, build_network = make_student(dims, outputs)
    method.setup(student, build_network)
    method.on_train_start(student)
    return method, student


def make_batches(
    dims: int, outputs: int, has_regions: bool, with_pseudo: bool = True, seed: int = 1
) -> tuple[LabeledBatch, UnlabeledBatch]:
    """Return random patches, two of each, whose labels show every class."""
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int) -> Tensor:
        return torch.randn((2, channels, *SPATIAL[dims]), generator=generator)

    def annotation() -> Tensor:
        return noise(outputs) > 0 if has_regions else noise(outputs).argmax(dim=1, keepdim=True)

    def one_hot(target: Tensor) -> Tensor:
        classes = torch.zeros((2, outputs, *SPATIAL[dims]))
        return target.float() if has_regions else classes.scatter_(1, target, 1.0)

    labeled = LabeledBatch(noise(1), annotation(), num_random=1)
    pseudo = PseudoLabel(one_hot(annotation()), noise(1).sigmoid()) if with_pseudo else None
    weak = noise(1)
    return labeled, UnlabeledBatch(weak, weak + 0.3 * noise(1), pseudo)
