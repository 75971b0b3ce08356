"""What every semi-supervised method must provide, and the types it works on.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network (classes including the
background, or regions), ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.registry import Registry
from nnunet_semisam.settings.config import SemiSAMConfig


@dataclass(frozen=True)
class PseudoLabel:
    """What the SAM stage believes about a batch of unlabeled patches.

    Attributes:
        target: One-hot classes or overlapping regions, ``(B, K, *S)``, float, 0 or 1.
        trust: How far each voxel may be believed, ``(B, 1, *S)``, in [0, 1]; 0 where there is no opinion.
    """

    target: Tensor
    trust: Tensor


@dataclass(frozen=True)
class UnlabeledBatch:
    """Patches without annotation. There is no target field, so a method cannot read one by accident.

    Attributes:
        weak: Patches with nnU-Net's spatial augmentation, ``(B, C, *S)``, for the teacher.
        strong: The same patches with intensity augmentation on top, ``(B, C, *S)``: voxel ``i`` of ``strong`` and
            voxel ``i`` of ``weak`` show the same anatomy.
        pseudo: The stored opinion of the SAM stage, or ``None`` where the stage has not spoken yet.
    """

    weak: Tensor
    strong: Tensor
    pseudo: PseudoLabel | None = None


@dataclass(frozen=True)
class LabeledBatch:
    """Patches with annotation, as nnU-Net's loader gives them.

    Attributes:
        data: ``(B, C, *S)``.
        target: nnU-Net's target, finest deep-supervision level only: labels ``(B, 1, *S)`` (the ignore label, if
            there is one, is ``K``), or ``(B, K, *S)`` bool for regions, plus one channel for an ignore label.
        num_random: How many patches, the first of the batch, were drawn at random and not for their foreground.
    """

    data: Tensor
    target: Tensor
    num_random: int

    def truth(self, num_channels: int) -> tuple[Tensor, Tensor]:
        """Return the annotation in the form of the network's output.

        Returns:
            One-hot classes or regions ``(B, K, *S)``, and 0 on the ignore label, else 1, ``(B, 1, *S)``; float32.
        """
        if self.target.shape[1] > 1 or num_channels == 1:  # regions
            valid = 1.0 - self.target[:, num_channels : num_channels + 1].float()
            if valid.shape[1] == 0:
                valid = torch.ones_like(self.target[:, :1], dtype=torch.float32)
            return self.target[:, :num_channels].float(), valid
        labels = self.target.long()
        valid = (labels < num_channels).float()
        one_hot = torch.zeros((labels.shape[0], num_channels, *labels.shape[2:]), device=labels.device)
        return one_hot.scatter_(1, labels.clamp(0, num_channels - 1), 1.0) * valid, valid


@dataclass(frozen=True)
class LossTerms:
    """The weighted loss to optimise, and the numbers worth a line in the training log.

    Attributes:
        total: Scalar, weights applied; ``None`` if the method has nothing to say at this time.
        log: Raw and weighted terms by name, plain numbers.
        strong_logits: The student's logits on the (possibly mixed) strong view, ``(B, K, *S)``, if they were computed.
        pseudo: The pseudo-label that belongs to ``strong_logits``: mixed wherever the method mixed images.
    """

    total: Tensor | None
    log: Mapping[str, float] = field(default_factory=dict)
    strong_logits: Tensor | None = None
    pseudo: PseudoLabel | None = None


class SSLMethod(ABC):
    """Turns unlabeled patches into a loss on the student. Owns whatever else it needs, for example a teacher.

    Args:
        config: The settings of the run.
        num_channels: ``K``, the output channels of the network.
        has_regions: Whether the output channels are overlapping regions (sigmoid) instead of classes (softmax).
    """

    def __init__(self, config: SemiSAMConfig, num_channels: int, has_regions: bool = False) -> None:
        self.config = config
        self.num_channels = num_channels
        self.has_regions = has_regions

    def setup(self, student: nn.Module, build_network: Callable[[], nn.Module]) -> None:  # noqa: B027
        """Build what the method owns. Called once, after nnU-Net built the student.

        Args:
            student: The unwrapped network that is trained (no DDP, not compiled).
            build_network: Returns a fresh network of the same plans on the same device, deep supervision off.
        """

    def on_train_start(self, student: nn.Module) -> None:  # noqa: B027
        """Synchronise with a student whose weights came after :meth:`setup`. Not called when a run is resumed."""

    def labeled_loss(self, student: nn.Module, labeled: LabeledBatch, supervised: Tensor, progress: float) -> LossTerms:
        """Return the loss on labeled patches; by default nnU-Net's own, untouched.

        Args:
            student: The network that is trained.
            labeled: The labeled batch of this step.
            supervised: nnU-Net's loss on that batch, scalar.
            progress: Fraction of the training done, in [0, 1].
        """
        return LossTerms(supervised)

    @abstractmethod
    def unsupervised_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> LossTerms:
        """Return the loss of ``student`` on unlabeled patches, weights applied.

        Args:
            student: The network that is trained; may return a list over deep-supervision levels, finest first.
            labeled: The labeled batch of this step, for methods that mix images.
            unlabeled: The unlabeled batch of this step.
            progress: Fraction of the training done, in [0, 1].
        """

    def optimizers(self) -> list[Optimizer]:
        """Return the optimisers of networks that the method trains by itself (discriminators, second networks)."""
        return []

    def after_step(self, student: nn.Module) -> None:  # noqa: B027
        """Follow the student. Called once after every optimiser step."""

    def deployable(self, student: nn.Module) -> nn.Module:
        """Return the network to validate and to ship."""
        return student

    def opinion(self, student: nn.Module) -> nn.Module:
        """Return the network whose opinion the SAM stage takes as prompts."""
        return self.deployable(student)

    def class_trust(self) -> list[float] | None:
        """Return a weight in [0, 1] for each output channel: how far it may speak in unlabeled terms by now.

        ``None``: the method does not measure it.
        """
        return None

    def expected_dice(self) -> float:
        """Return an estimate of the network's mean foreground Dice on cases it has not seen, without their labels.

        1 where the method has none: the SAM stage then compares SAM with the network as it is.
        """
        return 1.0

    def state_dict(self) -> dict:
        """Return what a checkpoint needs so that training resumes bit-identically: tensors and plain types only."""
        return {}

    def load_state_dict(self, state: dict) -> None:  # noqa: B027
        """Restore what :meth:`state_dict` returned."""


METHODS: Registry[SSLMethod] = Registry("semi-supervised method")
