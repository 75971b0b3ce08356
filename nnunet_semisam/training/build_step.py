"""Build what takes the steps of a training: method, gate, driver and optimisers around nnU-Net's network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from nnunet_semisam import ranks
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.methods import METHODS, Host
from nnunet_semisam.methods.parts.networks import unwrap
from nnunet_semisam.settings import Settings
from nnunet_semisam.training.optimisation import Optimisation
from nnunet_semisam.training.step import SemiSupervisedStep
from nnunet_semisam.training.unlabeled_pass import UnlabeledPass


@dataclass(frozen=True)
class StudentParts:
    """What nnU-Net built to train the student.

    Attributes:
        network: The student: wrapped by DDP, compiled.
        loss: ``(outputs, targets)``, lists over deep-supervision levels where the network has them.
        optimizer: Of the student.
        scaler: Gradient scaler; ``None`` where nnU-Net uses none (CPU).
        device: Where the network computes.
        random_share: Share of the labeled patches that are drawn at random and not for their foreground.
        unlabeled_random_share: Share of the unlabeled ones.
    """

    network: nn.Module
    loss: Callable[[Any, Any], Tensor]
    optimizer: Optimizer
    scaler: GradScaler | None
    device: torch.device
    random_share: float
    unlabeled_random_share: float = 1.0


def build_step(settings: Settings, host: Host, student: StudentParts) -> SemiSupervisedStep:
    """Return the step of the method that the settings name, which is set up; all ranks begin alike.

    Args:
        settings: Of the training.
        host: What the method may ask of the trainer.
        student: What nnU-Net built.
    """
    method = METHODS.get(settings.run.method)(settings.block(settings.run.method), host.labels)
    method.setup(unwrap(student.network), host)
    for part in method.state_parts().values():
        ranks.broadcast_state(part.state_dict())  # what a method owns is outside DDP and must begin alike
    gate = ClassGate(settings.block("gate"), host.labels)
    return SemiSupervisedStep(
        network=student.network,
        loss=student.loss,
        method=method,
        unlabeled_pass=UnlabeledPass(method, gate, settings.block("cutmix")),
        optimisation=Optimisation(student.optimizer, method.optimizers(), student.scaler),
        device=student.device,
        random_share=student.random_share,
        unlabeled_random_share=student.unlabeled_random_share,
    )
