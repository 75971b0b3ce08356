"""The loss that teaches a SAM to follow prompts.

Shapes: ``M`` prompts, ``T`` mask tokens (4), ``h, w`` of the low-resolution masks.

Source: Kirillov et al., Segment Anything, section 3 and appendix A, https://arxiv.org/abs/2304.02643: focal and Dice
loss, the least loss over the candidates of an ambiguous prompt, squared error of the estimated IoU. We weigh focal and
Dice 20 : 3 instead of 20 : 1 and let targets be coverage in [0, 1], because thin rings are lost in rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_WEIGHT, DICE_WEIGHT, QUALITY_WEIGHT, EDGE_WEIGHT = 20.0, 3.0, 1.0, 1.0
EDGE_BALANCE = 4.0  # edges are thin: a pixel of one counts as much as four others
GAMMA = 2.0  # Lin et al. 2017, https://arxiv.org/abs/1708.02002


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Return focal plus Dice loss of every mask.

    Args:
        logits: ``(M, T, h, w)``.
        target: Coverage, ``(M, h, w)``, in [0, 1].

    Returns:
        ``(M, T)``.
    """
    wanted = target[:, None].expand_as(logits)
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = ((wanted - probability).abs() ** GAMMA * entropy).mean((2, 3))
    overlap = (probability * wanted).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + wanted.sum((2, 3)) + 1)
    return FOCAL_WEIGHT * focal + DICE_WEIGHT * dice


def edge_loss(logits: Tensor, edges: Tensor) -> Tensor:
    """Return the cross-entropy of predicted edges, scalar.

    It makes the image encoder see before the decoder looks: without it, the decoder learns to predict from boxes and
    masks alone long before features of the image are worth listening to.

    Args:
        logits: ``(B, 1, h, w)``.
        edges: ``(B, h, w)``, 0 or 1.
    """
    balance = torch.tensor(EDGE_BALANCE, device=logits.device)
    return EDGE_WEIGHT * F.binary_cross_entropy_with_logits(logits[:, 0].float(), edges, pos_weight=balance)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU of thresholded masks with ``target (M, h, w)``, ``(M, T)``; nothing against nothing is 1."""
    guess, wanted = logits > 0, (target > 0.5)[:, None]
    union = (guess | wanted).sum((2, 3))
    return torch.where(union > 0, (guess & wanted).sum((2, 3)) / union.clamp_min(1), torch.ones_like(union))


def prompt_loss(logits: Tensor, quality: Tensor, target: Tensor, ambiguous: Tensor) -> Tensor:
    """Return the loss of a batch of prompts, scalar.

    Args:
        logits: ``(M, T, h, w)``.
        quality: Estimated IoU, ``(M, T)``.
        target: Coverage, ``(M, h, w)``.
        ambiguous: Prompts that are taught through the best of the candidates 1 to T - 1, ``(M,)``, bool; the others
            through mask 0.
    """
    losses = mask_losses(logits, target)
    chosen = torch.where(ambiguous, losses[:, 1:].amin(1), losses[:, 0])
    with torch.no_grad():
        real = mask_iou(logits, target)
    best_of, first_only = quality.new_tensor([0.0, 1, 1, 1]), quality.new_tensor([1.0, 0, 0, 0])
    counting = torch.where(ambiguous[:, None], best_of, first_only)
    error = ((quality - real) ** 2 * counting).sum(1) / counting.sum(1)
    return (chosen + QUALITY_WEIGHT * error).mean()
