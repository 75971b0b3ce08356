"""A trainer of a few attributes for ``test_step.py``; a file of its own, so that spawned processes import little."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_semisam.methods import MeanTeacher, SSLMethod
from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.training.step import semi_supervised_step

K = 3
WORLD = 2
STEPS = 12  # the teacher is measured twice
SETTINGS = {
    "maturity_dice": 0.0,
    "consistency_start": 0.0,
    "consistency_rampup": 0.0,
    "consistency_loss": "mse",  # a mean over voxels: the mean over ranks is the mean over the joint batch
    "cutmix_probability": 0.0,
    "area_prior_factor": 1.2,
}


class DeepNet(nn.Module):
    """Two levels with a head each; unlabeled patches reach the fine one only."""

    def __init__(self, deep_supervision: bool = True) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.LeakyReLU())
        self.fine, self.coarse = nn.Conv2d(6, K, 1), nn.Conv2d(6, K, 1)
        self.deep_supervision = deep_supervision

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.trunk(x)
        fine = self.fine(features)
        return [fine, self.coarse(F.avg_pool2d(features, 2))] if self.deep_supervision else fine


def make_network() -> DeepNet:
    torch.manual_seed(1)
    return DeepNet()


def deep_loss(outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
    return sum(F.cross_entropy(o, t[:, 0].long()) for o, t in zip(outputs, targets, strict=True))


def batches(step: int, ranks: list[int]) -> tuple[dict, dict]:
    """Labeled and unlabeled patches of some ranks: two each, of which the first is drawn at random."""
    order = [(rank, place) for place in range(2) for rank in ranks]

    def noise(kind: int) -> Tensor:
        made = [torch.Generator().manual_seed(1000 * step + 100 * kind + 10 * r + p) for r, p in order]
        return torch.stack([torch.randn((1, 8, 8), generator=g) for g in made])

    data, weak = noise(0), noise(1)
    target = (data > -0.4).to(torch.int16) + (data > 0.4)
    labeled = {"data": data, "target": [target, target[:, :, ::2, ::2]]}
    return labeled, {"weak": weak, "strong": weak + 0.3 * noise(2), "keys": []}


def make_trainer(
    network: nn.Module, is_ddp: bool = False, method: SSLMethod | None = None, **attributes
) -> SimpleNamespace:
    plain = network.module if is_ddp else network
    method = method or MeanTeacher(SemiSAMConfig(**SETTINGS), K)
    method.setup(plain, lambda: DeepNet(deep_supervision=False))
    parts = {
        "network": network,
        "loss": deep_loss,
        "method": method,
        "optimizer": torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9),
        "grad_scaler": None,
        "device": torch.device("cpu"),
        "progress": 0.7,
        "is_ddp": is_ddp,
        "oversample_foreground_percent": 0.5,
        "pseudo_labels": None,
    }
    return SimpleNamespace(**(parts | attributes))


def train(trainer: SimpleNamespace, ranks: list[int]) -> dict:
    logs = [semi_supervised_step(trainer, *batches(step, ranks)) for step in range(STEPS)]
    plain = trainer.network.module if trainer.is_ddp else trainer.network
    return {
        "student": plain.state_dict(),
        "method": trainer.method.state_dict(),
        "logs": [{name: float(value) for name, value in log.items()} for log in logs],
    }


def run_rank(rank: int, folder: str) -> None:
    """Train on the patches of one rank, as DDP does, and write down what came of it."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    try:
        network = nn.parallel.DistributedDataParallel(make_network())
        torch.save(train(make_trainer(network, is_ddp=True), [rank]), Path(folder) / f"rank_{rank}.pth")
    finally:
        dist.destroy_process_group()
