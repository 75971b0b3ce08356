"""The stored pseudo-labels in a training step: from what the loader gives to a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.batches import PseudoLabel
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES
from nnunet_semisam.methods.parts.schedules import decay

if TYPE_CHECKING:
    from nnunet_semisam.gate.class_gate import GatedTarget
    from nnunet_semisam.pseudo_labels.settings import SAMSettings


class PseudoLabelTerm:
    """Weighs and learns the pseudo-labels of a batch.

    Args:
        settings: The block ``sam``.
        labels: What the output channels mean.

    Attributes:
        active: Whether a round of pseudo-labels is in use; the session sets it.
    """

    def __init__(self, settings: SAMSettings, labels: Labels) -> None:
        self.settings, self.labels = settings, labels
        self.active = False

    def weight_by_schedule(self, progress: float) -> float:
        """Return the weight of the term at this time of the training, whether or not there is a round."""
        return self.settings.weight * decay(progress, self.settings.start, self.settings.decay)

    def weight(self, progress: float) -> float:
        """Return the weight of the term; 0 while no round is in use."""
        return self.weight_by_schedule(progress) if self.active else 0.0

    def pseudo_label(self, label: Tensor, confidence: Tensor, weight: Tensor) -> PseudoLabel:
        """Turn what the loader gives into a target.

        Args:
            label: ``(B, 1, *S)`` int16 with -1 where there is none, or ``(B, R, *S)`` bool for regions.
            confidence: ``(B, 1, *S)`` in [0, 1]; below ``confidence_threshold`` a voxel is ignored.
            weight: Of each label, ``(B,)``, in [0, 1]: a factor on the confidence that the threshold does not see.
        """
        confidence = confidence * (confidence >= self.settings.confidence_threshold)
        weights = weight.view(-1, *[1] * (confidence.ndim - 1)).expand_as(confidence)
        if self.labels.has_regions:
            return PseudoLabel(label.float(), confidence, weights)
        one_hot = torch.zeros((label.shape[0], self.labels.heads, *label.shape[2:]), device=label.device)
        return PseudoLabel(one_hot.scatter_(1, label.clamp(min=0).long(), 1.0), confidence, weights)

    def loss(self, gated: GatedTarget) -> Tensor:
        """Return the raw loss, a scalar, of the student's logits on the strong view and the gated pseudo-label."""
        loss = UNLABELED_LOSSES.get(self.settings.loss)
        return loss(gated.logits, gated.target, gated.confidence, gated.class_weights, self.labels)
