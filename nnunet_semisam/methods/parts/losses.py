"""Losses between a student's logits and soft or hard targets on unlabeled patches.

Shapes in this file: ``B`` batch, ``K`` output channels (classes including the background, or regions), ``*S`` the two
or three spatial axes. Every loss is a :class:`ConsistencyLoss`: a scalar, exactly 0 with zero gradient where nothing
is trusted.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.registry import Registry

EPSILON = 1e-5  # nnU-Net's "smooth" of the Dice term


class ConsistencyLoss(Protocol):
    """Compares logits with a target, voxel by voxel, weighed by trust."""

    def __call__(self, logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor, has_regions: bool) -> Tensor:
        """Return the loss.

        Args:
            logits: The student's logits, ``(B, K, *S)``.
            target: Probabilities in [0, 1] or one-hot, ``(B, K, *S)``. A constant: no gradient flows into it.
            trust: Weight of each voxel in [0, 1], ``(B, 1, *S)``.
            class_trust: Weight of each channel in [0, 1], ``(K,)``.
            has_regions: Whether channels are overlapping regions (sigmoid) instead of classes (softmax).

        Returns:
            Scalar, float32.

        Raises:
            ValueError: If a shape does not fit. Broadcasting would hide a class axis taken for a batch axis.
        """


CONSISTENCY_LOSSES: Registry[ConsistencyLoss] = Registry("consistency loss")


def probabilities(logits: Tensor, has_regions: bool) -> Tensor:
    """Return class or region probabilities in float32."""
    return logits.float().sigmoid() if has_regions else logits.float().softmax(dim=1)


def hard_target(probs: Tensor, has_regions: bool) -> Tensor:
    """Return one-hot classes (argmax) or thresholded regions (0.5), same shape and dtype as ``probs``."""
    if has_regions:
        return (probs > 0.5).to(probs.dtype)
    winner = probs.max(dim=1, keepdim=True).indices  # on CPUs seven times as fast as argmax over this axis
    return torch.zeros_like(probs).scatter_(1, winner, 1.0)


def _check(logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor) -> None:
    if logits.shape != target.shape:
        raise ValueError(
            f"logits and target must have one shape (B, K, *S), got {tuple(logits.shape)} and {tuple(target.shape)}."
        )
    wanted = (logits.shape[0], 1, *logits.shape[2:])
    if trust.shape != wanted:
        raise ValueError(f"trust must have shape {wanted}, got {tuple(trust.shape)}.")
    if class_trust.shape != logits.shape[1:2]:
        raise ValueError(f"class_trust must have shape {tuple(logits.shape[1:2])}, got {tuple(class_trust.shape)}.")


def _weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Average over the entries with any weight: half the weight is half the loss, and no weight is none."""
    return (weight * error).sum() / (weight > 0).sum().clamp(min=1)


@CONSISTENCY_LOSSES.register("mse")
def squared_error(logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor, has_regions: bool) -> Tensor:
    """Squared error between probabilities, averaged over trusted voxels and channels; in [0, 1].

    Trust alone weighs voxels here; ``class_trust`` weighs regions, which have an error of their own.

    Source:
        Tarvainen & Valpola, NeurIPS 2017, section 2, https://arxiv.org/abs/1703.01780; trust generalises the
        uncertainty mask of Yu et al., MICCAI 2019, https://arxiv.org/abs/1907.07034.
    """
    _check(logits, target, trust, class_trust)
    error = (probabilities(logits, has_regions) - target.detach().float()).square()
    if has_regions:
        error = class_trust.view(1, -1, *[1] * (logits.ndim - 2)) * error
    return _weighted_mean(error.mean(dim=1, keepdim=True), trust)


@CONSISTENCY_LOSSES.register("cross_entropy")
def soft_cross_entropy(logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor, has_regions: bool) -> Tensor:
    """Cross entropy (classes) or binary cross entropy (regions) with soft targets, averaged over trusted voxels.

    Trust alone weighs voxels here; ``class_trust`` weighs regions, which have an error of their own.
    """
    _check(logits, target, trust, class_trust)
    logits, target = logits.float(), target.detach().float()
    if has_regions:
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weights = class_trust.view(1, -1, *[1] * (logits.ndim - 2))
        return _weighted_mean((weights * error).mean(dim=1, keepdim=True), trust)
    error = -(target * logits.log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return _weighted_mean(error, trust)


def masked_dice(logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor, has_regions: bool) -> Tensor:
    """One minus soft Dice over the batch, averaged over foreground channels; in [0, 1].

    A channel weighs as much as it is trusted: ``class_trust`` times the mean trust of those trusted voxels that the
    target claims. One that the target claims on no trusted voxel is left out. Trust enters overlap and size once each,
    so a perfect prediction costs nothing however little it is trusted.
    """
    probs, target = probabilities(logits, has_regions), target.detach().float()
    axes = [0, *range(2, logits.ndim)]
    claimed = (target * trust).sum(axes)
    overlap, size = (probs * target * trust).sum(axes), (probs * trust).sum(axes) + claimed
    spoken = class_trust * claimed / (target * (trust > 0)).sum(axes).clamp(min=EPSILON)
    if not has_regions:
        spoken = torch.cat([torch.zeros_like(spoken[:1]), spoken[1:]])  # as nnU-Net: no background in the Dice
    dice = (2 * overlap + EPSILON) / (size + EPSILON)
    return _weighted_mean(1 - dice, spoken)


@CONSISTENCY_LOSSES.register("dice_ce")
def dice_and_cross_entropy(
    logits: Tensor, target: Tensor, trust: Tensor, class_trust: Tensor, has_regions: bool
) -> Tensor:
    """Dice plus cross entropy with the hard version of the target: nnU-Net's loss as self-training uses it.

    Source:
        Self-training with hard targets in nnU-Net's own loss: nnFilterMatch, https://arxiv.org/abs/2509.19746.
        Both terms are averaged over trusted voxels; the published code trusts all.
    """
    _check(logits, target, trust, class_trust)
    hard = hard_target(target.detach().float(), has_regions)
    dice = masked_dice(logits, hard, trust, class_trust, has_regions)
    return dice + soft_cross_entropy(logits, hard, trust, class_trust, has_regions)
