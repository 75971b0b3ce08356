"""What a method is given in each step: labeled patches, and patches without annotation.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network (classes including the
background, or regions), ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels


@dataclass(frozen=True)
class PseudoLabel:
    """The stored pseudo-label of a batch of unlabeled patches.

    Attributes:
        target: One-hot classes or overlapping regions, ``(B, K, *S)``, float, 0 or 1.
        confidence: How likely each voxel's label is right, ``(B, 1, *S)``, in [0, 1]; 0 where there is no label.
        weight: What the age of the label leaves of its say, ``(B, 1, *S)``, in [0, 1]; ``None``: all of it.
    """

    target: Tensor
    confidence: Tensor
    weight: Tensor | None = None

    @property
    def weighted_confidence(self) -> Tensor:
        """Return the factor of each voxel in the loss, ``(B, 1, *S)``."""
        return self.confidence if self.weight is None else self.confidence * self.weight

    def changed(self, change: Callable[[Tensor], Tensor]) -> PseudoLabel:
        """Return the label with every tensor changed alike."""
        weight = None if self.weight is None else change(self.weight)
        return PseudoLabel(change(self.target), change(self.confidence), weight)

    def contradicts(self, hard: Tensor) -> Tensor:
        """Return where a voxel with any confidence has another label than a hard target has, ``(B, 1, *S)``, bool.

        Args:
            hard: 0 or 1, ``(B, K, *S)``.
        """
        return (hard != self.target).any(dim=1, keepdim=True) & (self.confidence > 0)

    def left_of(self, confidence: Tensor, contradicted: Tensor) -> Tensor:
        """Return what is left of the confidence of another target: nothing where a label of now contradicts it.

        An old label is of an earlier network, and takes as much as its age leaves of its say: what it does not teach,
        the other target does.

        Args:
            confidence: Of the other target, ``(B, 1, *S)``.
            contradicted: Where the label contradicts it, ``(B, 1, *S)``, bool.
        """
        left = 0.0 if self.weight is None else (1 - self.weight) * confidence
        return torch.where(contradicted, left, confidence)


@dataclass(frozen=True)
class UnlabeledBatch:
    """Patches without annotation. There is no target field, so a method cannot read one by accident.

    Attributes:
        weak: Patches with nnU-Net's spatial augmentation, ``(B, C, *S)``, for whoever makes the target.
        strong: The same patches with intensity augmentation on top, ``(B, C, *S)``: voxel ``i`` of ``strong`` and
            voxel ``i`` of ``weak`` show the same anatomy.
        pseudo: The stored pseudo-label, or ``None`` where there is none yet.
        strong2: A second strong view, for methods with ``strong_views = 2``; else ``None``.
        num_random: How many patches, the first of the batch, were drawn at random and not for their foreground;
            ``None``: all.
    """

    weak: Tensor
    strong: Tensor
    pseudo: PseudoLabel | None = None
    strong2: Tensor | None = None
    num_random: int | None = None


@dataclass(frozen=True)
class LabeledBatch:
    """Patches with annotation, as nnU-Net's loader gives them.

    Attributes:
        data: ``(B, C, *S)``.
        levels: What nnU-Net's loss takes: labels ``(B, 1, *S_level)`` per deep-supervision level, finest first (the
            ignore label, if there is one, is ``K``), or ``(B, K, *S_level)`` bool for regions, plus one channel for an
            ignore label. One entry without deep supervision.
        num_random: How many patches, the first of the batch, were drawn at random and not for their foreground.
    """

    data: Tensor
    levels: tuple[Tensor, ...]
    num_random: int

    @property
    def target(self) -> Tensor:
        """Return the finest level."""
        return self.levels[0]

    def one_hot(self, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return the annotation in the form of the network's output.

        Returns:
            One-hot classes or regions ``(B, K, *S)``, and 0 on the ignore label, else 1, ``(B, 1, *S)``; float32.
        """
        heads = labels.heads
        if labels.has_regions:
            valid = 1.0 - self.target[:, heads : heads + 1].float()
            if valid.shape[1] == 0:
                valid = torch.ones_like(self.target[:, :1], dtype=torch.float32)
            return self.target[:, :heads].float(), valid
        index = self.target.long()
        valid = (index < heads).float()
        classes = torch.zeros((index.shape[0], heads, *index.shape[2:]), device=index.device)
        return classes.scatter_(1, index.clamp(0, heads - 1), 1.0) * valid, valid

    def partners(self, count: int, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``count`` patches, each with its annotation as :meth:`one_hot` gives it; patches are used in turn."""
        chosen = torch.arange(count, device=self.data.device) % len(self.data)
        one_hot, valid = self.one_hot(labels)
        return self.data[chosen], one_hot[chosen], valid[chosen]
