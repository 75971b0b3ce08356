"""A small training for ``test_step.py``; a file of its own, so that spawned processes import little."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tiny_students import (
    NOW,
    K,
    build_host,
    build_settings,
    deep_loss,
    labels_of,
    make_pass,
    make_step,
    target_settings,
)
from torch import Tensor, nn

from nnunet_semisam import ranks
from nnunet_semisam.methods import METHODS, bcp, ict
from nnunet_semisam.training.step import SemiSupervisedStep

WORLD = 2
STEPS = 12  # the prompting network is measured twice
# a mean over voxels: the mean over ranks is the mean over the joint batch
METHOD_SETTINGS = {"loss": "mse", "cutmix_probability": 0.0, "labeled_mix_probability": 0.0, "confidence": 0.0}
# what is drawn at random differs between one batch and its two halves
DRAWN = {"ua_mt": {"noise": 0.0}, "mcicsam": {"noise": 0.0}, "unimatch": {"dropout": 0.0}, "sss": {"dropout": 0.0}}
GATE = {"dice": 0.0, "area_factor": 1.2}


class Trunk(nn.Module):
    """The encoder: one stage."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.LeakyReLU())
        self.output_channels = [6]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.layers(x)]


class Heads(nn.Module):
    """The decoder: three levels with a head each; most unlabeled patches reach the fine one only."""

    def __init__(self, deep_supervision: bool) -> None:
        super().__init__()
        self.fine, self.coarse, self.coarsest = (nn.Conv2d(6, K, 1) for _ in range(3))
        self.deep_supervision = deep_supervision

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        fine = self.fine(features[0])
        if not self.deep_supervision:
            return fine
        coarse, coarsest = (F.avg_pool2d(features[0], size) for size in (2, 4))
        return [fine, self.coarse(coarse), self.coarsest(coarsest)]


class DeepNet(nn.Module):
    """Encoder and decoder, as nnU-Net's networks."""

    def __init__(self, deep_supervision: bool = True) -> None:
        super().__init__()
        self.encoder, self.decoder = Trunk(), Heads(deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(x))


def make_network(seed: int = 1) -> DeepNet:
    torch.manual_seed(seed)
    return DeepNet()


def batches(step: int, of_ranks: list[int]) -> tuple[dict, dict]:
    """Labeled and unlabeled patches of some ranks: two each, of which the first is drawn at random."""
    order = [(rank, place) for place in range(2) for rank in of_ranks]

    def noise(kind: int) -> Tensor:
        made = [torch.Generator().manual_seed(1000 * step + 100 * kind + 10 * r + p) for r, p in order]
        return torch.stack([torch.randn((1, 8, 8), generator=g) for g in made])

    data, weak = noise(0), noise(1)
    target = (data > -0.4).to(torch.int16) + (data > 0.4)
    labeled = {"data": data, "target": [target, target[:, :, ::2, ::2], target[:, :, ::4, ::4]]}
    return labeled, {"weak": weak, "strong": weak + 0.3 * noise(2), "strong2": weak + 0.3 * noise(3), "keys": []}


def fixed_boxes(world: int) -> None:
    """Let Bidirectional Copy-Paste cut the same box from a patch, whichever rank has it; leave images unmixed."""

    def box_mask(shape: torch.Size, device: torch.device, side: float) -> Tensor:
        mask = torch.zeros((shape[0], 1, *shape[2:]), dtype=torch.bool)
        for index in range(shape[0]):
            place = index // world  # patches of all ranks come in turn
            mask[index, :, 1 + place : 6 + place, 2 - place : 7 - place] = True
        return mask

    bcp.box_mask, bcp.frame_comes_first = box_mask, lambda: True
    ict.interpolation_shares = lambda count, ndim, alpha, device: torch.ones(count, *[1] * (ndim - 1))


def make_training(name: str, network: nn.Module, method_seed: int) -> SemiSupervisedStep:
    """Return what trains a method on a network as the trainer does; modules of the method begin as on rank 0."""
    plain = getattr(network, "module", network)
    labels = labels_of(False)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    block = build_settings(name, method=target_settings(name, **METHOD_SETTINGS, **DRAWN.get(name, {}))).block(name)
    method = METHODS.get(name)(block, labels)
    torch.manual_seed(method_seed)
    method.setup(plain, build_host(labels, lambda deep_supervision=False: DeepNet(deep_supervision), optimizer))
    for part in method.state_parts().values():
        ranks.broadcast_state(part.state_dict())
    return make_step(make_pass(method, GATE), network, optimizer, loss=deep_loss)


def train(step: SemiSupervisedStep, of_ranks: list[int]) -> dict:
    method = step.method
    begun = {name: parts_of(part) for name, part in method.state_parts().items()}
    logs = [step(*batches(number, of_ranks), NOW) for number in range(STEPS)]
    plain = getattr(step.network, "module", step.network)
    return {
        "student": plain.state_dict(),
        "begun": begun,
        "method": {name: parts_of(part) for name, part in method.state_parts().items()},
        "gate": step.unlabeled_pass.gate.state_dict(),
        "logs": [{name: float(value) for name, value in log.items()} for log in logs],
    }


def parts_of(part: object) -> dict[str, Tensor]:
    """Return a copy of the weights of what a method owns."""
    network = getattr(part, "network", part)
    return {name: value.clone() for name, value in network.state_dict().items()}


def run_rank(rank: int, folder: str, names: list[str]) -> None:
    """Train every method on the patches of one rank, as DDP does, and write down what came of it."""
    torch.set_num_threads(1)
    fixed_boxes(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD)
    try:
        for name in names:
            network = nn.parallel.DistributedDataParallel(make_network(seed=1 + rank))
            step = make_training(name, network, method_seed=5 + rank)
            torch.save(train(step, [rank]), Path(folder) / f"{name}_{rank}.pth")
    finally:
        dist.destroy_process_group()
