"""The loss of an adaptation, and the Dice that judges it.

Shapes in this file: ``M`` objects, ``*S`` spatial axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.sam.base import MaskPrediction


def adaptation_loss(prediction: MaskPrediction, masks: Tensor, valid: Tensor, quality_weight: float) -> Tensor:
    """Return the mean of Dice and cross-entropy loss, plus the squared error of the estimated IoU, scalar.

    Args:
        prediction: Logits ``(M, *S)`` and estimated IoU ``(M,)``.
        masks: True masks, ``(M, *S)``, bool.
        valid: Voxels that count, ``(M, *S)``, bool.
        quality_weight: Weight of the estimated IoU's error.

    Source:
        SFR, https://arxiv.org/abs/2403.11229, fine-tunes SAM with equal shares of both; the third term keeps the
        estimate of the quality true, which pseudo-labels use.

    Example:
        >>> logits = torch.tensor([[20.0, 20.0, -20.0, -20.0]])
        >>> masks, valid = torch.tensor([[True, True, False, False]]), torch.ones(1, 4, dtype=torch.bool)
        >>> round(float(adaptation_loss(MaskPrediction(logits, torch.tensor([0.5])), masks, valid, 1.0)), 4)
        0.25
    """
    wanted, counts = masks.float().flatten(1), valid.float().flatten(1)
    logits = prediction.logits.flatten(1)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    entropy = (entropy * counts).sum(1) / counts.sum(1).clamp_min(1)
    inside = logits.sigmoid() * counts
    dice = 1 - (2 * (inside * wanted).sum(1) + 1) / (inside.sum(1) + (wanted * counts).sum(1) + 1)
    error = (prediction.quality.float() - iou(prediction.logits, masks, valid)).square()
    return (0.5 * (dice + entropy) + quality_weight * error).mean()


@torch.no_grad()
def iou(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Return the IoU of thresholded masks with true ones, ``(M,)``; true masks are not empty."""
    inside, outside = ((logits > 0) & valid & masks).flatten(1), ((logits > 0) & valid & ~masks).flatten(1)
    return inside.sum(1) / ((masks & valid).flatten(1).sum(1) + outside.sum(1)).clamp_min(1)


@torch.no_grad()
def overlaps(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Return twice the common voxels, and the voxels of both, of each mask, ``(M, 2)``: sums of them give a Dice."""
    guess, real = ((logits > 0) & valid).flatten(1), (masks & valid).flatten(1)
    return torch.stack([2 * (guess & real).sum(1), guess.sum(1) + real.sum(1)], dim=1)
