"""Losses between a student's logits and soft or hard targets on unlabeled patches.

Shapes in this file: ``B`` batch, ``K`` output channels (classes including the background, or regions), ``*S`` the two
or three spatial axes. Every loss is an :class:`UnlabeledLoss`: a scalar, exactly 0 with zero gradient where no voxel
has any confidence.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.registry import Registry

EPSILON = 1e-5  # nnU-Net's "smooth" of the Dice term


class UnlabeledLoss(Protocol):
    """Compares logits with a target, voxel by voxel, weighed by confidence."""

    def __call__(
        self, logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels
    ) -> Tensor:
        """Return the loss.

        Args:
            logits: The student's logits, ``(B, K, *S)``.
            target: Probabilities in [0, 1] or one-hot, ``(B, K, *S)``. A constant: no gradient flows into it.
            confidence: Weight of each voxel in [0, 1], ``(B, 1, *S)``.
            class_weights: Weight of each channel in [0, 1], ``(K,)``, or of each channel and voxel, ``(B, K, *S)``. Of
                regions it is all that the class gate says, and one of weight 0 must get no gradient; the gate's
                weights of classes are in ``confidence`` as well.
            labels: What the channels mean: classes (softmax) or overlapping regions (sigmoid).

        Returns:
            Scalar, float32.

        Raises:
            ValueError: If a shape does not fit. Broadcasting would hide a class axis taken for a batch axis.
        """


UNLABELED_LOSSES: Registry[UnlabeledLoss] = Registry("unlabeled loss")


def check_shapes(logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor) -> None:
    """Refuse arguments of an unlabeled loss that do not fit each other; see :class:`UnlabeledLoss`.

    Raises:
        ValueError: If a shape does not fit.
    """
    if logits.shape != target.shape:
        raise ValueError(
            f"logits and target must have one shape (B, K, *S), got {tuple(logits.shape)} and {tuple(target.shape)}."
        )
    wanted = (logits.shape[0], 1, *logits.shape[2:])
    if confidence.shape != wanted:
        raise ValueError(f"confidence must have shape {wanted}, got {tuple(confidence.shape)}.")
    if class_weights.shape not in (logits.shape[1:2], logits.shape):
        raise ValueError(
            f"class_weights must have shape {tuple(logits.shape[1:2])} or {tuple(logits.shape)}, got "
            f"{tuple(class_weights.shape)}."
        )


def by_voxel(class_weights: Tensor, ndim: int) -> Tensor:
    """Return weights of channels, ``(K,)`` or ``(B, K, *S)``, in a form that multiplies the second."""
    return class_weights if class_weights.ndim == ndim else class_weights.view(1, -1, *[1] * (ndim - 2))


def _weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Average over the entries with any weight: half the weight is half the loss, and no weight is none."""
    return (weight * error).sum() / (weight > 0).sum().clamp(min=1)


@UNLABELED_LOSSES.register("mse")
def squared_error(logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels) -> Tensor:
    """Squared error between probabilities, weighed by confidence, averaged over all voxels and channels; in [0, 1].

    Confidence alone weighs voxels here; ``class_weights`` weighs regions, which have an error of their own.

    Source:
        Tarvainen & Valpola, NeurIPS 2017, section 2, https://arxiv.org/abs/1703.01780; the confidence generalises the
        uncertainty mask of Yu et al., MICCAI 2019, https://arxiv.org/abs/1907.07034.
    """
    check_shapes(logits, target, confidence, class_weights)
    error = (labels.probabilities(logits) - target.detach().float()).square()
    if labels.has_regions:
        error = by_voxel(class_weights, logits.ndim) * error
    return (confidence * error.mean(dim=1, keepdim=True)).mean()


@UNLABELED_LOSSES.register("confidence_aware")
def confidence_aware_error(
    logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels
) -> Tensor:
    """Squared error between probabilities, averaged over voxels by their confidence, times the largest one; in [0, 1].

    Unlike ``mse``, few sure voxels weigh together as much as many: the ratio of confidences counts. The largest of them
    weighs all, so that what makes every voxel less certain (a class of low weight, an old pseudo-label) makes the loss
    smaller.

    Source:
        The confidence-aware regularisation of SemiSAM+, https://arxiv.org/abs/2502.20749: error times certainty over
        certainty. Its published code has no gradient, since both sides are detached; and it adds the mean uncertainty,
        which is a constant here. The largest confidence as a factor is ours.
    """
    check_shapes(logits, target, confidence, class_weights)
    error = (labels.probabilities(logits) - target.detach().float()).square()
    if labels.has_regions:
        error = by_voxel(class_weights, logits.ndim) * error
    mean = (confidence * error.mean(dim=1, keepdim=True)).sum() / confidence.sum().clamp(min=EPSILON)
    return confidence.max() * mean


@UNLABELED_LOSSES.register("cross_entropy")
def soft_cross_entropy(
    logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels
) -> Tensor:
    """Cross entropy (classes) or binary cross entropy (regions) with soft targets, weighed by confidence.

    It is averaged over all voxels, so that one voxel weighs what it weighs in nnU-Net's loss of a labeled patch:
    averaged over confident voxels alone, each would pull a hundred times as hard where one in a hundred is confident.

    Confidence alone weighs voxels here; ``class_weights`` weighs regions, which have an error of their own.
    """
    check_shapes(logits, target, confidence, class_weights)
    logits, target = logits.float(), target.detach().float()
    if labels.has_regions:
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        weights = by_voxel(class_weights, logits.ndim)
        return (confidence * (weights * error).mean(dim=1, keepdim=True)).mean()
    error = -(target * logits.log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return (confidence * error).mean()


def masked_dice(logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels) -> Tensor:
    """One minus soft Dice over the batch, averaged over foreground channels; in [0, 1].

    The weight of a channel is the mean, over those voxels of the target with any confidence, of confidence times
    ``class_weights``. A channel without such a voxel is left out. Confidence enters overlap and size once each, so that
    a perfect prediction costs nothing however low the confidence is.
    """
    probs, target = labels.probabilities(logits), target.detach().float()
    believed, weighs_voxels = confidence > 0, class_weights.ndim == logits.ndim
    if weighs_voxels:
        confidence = confidence * class_weights
    axes = [0, *range(2, logits.ndim)]
    claimed = (target * confidence).sum(axes)
    overlap, size = (probs * target * confidence).sum(axes), (probs * confidence).sum(axes) + claimed
    channel_weights = claimed / (target * believed).sum(axes).clamp(min=EPSILON)
    if not weighs_voxels:
        channel_weights = class_weights * channel_weights
    if not labels.has_regions:
        # as nnU-Net: no background in the Dice
        channel_weights = torch.cat([torch.zeros_like(channel_weights[:1]), channel_weights[1:]])
    dice = (2 * overlap + EPSILON) / (size + EPSILON)
    return _weighted_mean(1 - dice, channel_weights)


@UNLABELED_LOSSES.register("dice_ce")
def dice_and_cross_entropy(
    logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor, labels: Labels
) -> Tensor:
    """Dice plus cross entropy with the hard version of the target: nnU-Net's loss as self-training uses it.

    Source:
        Self-training with hard targets in nnU-Net's own loss: nnFilterMatch, https://arxiv.org/abs/2509.19746.
        Both are weighed by confidence; the published code learns all voxels alike.
    """
    check_shapes(logits, target, confidence, class_weights)
    hard = labels.hard(target.detach().float())
    dice = masked_dice(logits, hard, confidence, class_weights, labels)
    return dice + soft_cross_entropy(logits, hard, confidence, class_weights, labels)
