"""A second opinion on a teacher's patches: its prediction of the mirrored patch, and how alike both are.

A network of few labels is as sure of its errors as of what is right: on ACDC with one labeled patient, the share of
foreground voxels that are right hardly rises with their probability. What tells good patches from bad ones is whether
the mirrored patch is predicted alike, class by class (docs/results.md, A second opinion on the teacher's targets). So
the Dice of both predictions weighs a patch.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes
or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nnunet_semisam.labels import Labels

IN_PLANE = (-2, -1)  # nnU-Net's augmentation mirrors along these axes, so its networks know such images
SMOOTHING = 5e-4  # of the voxels of a patch: a few voxels in one of two predictions are no dispute


def predict_twice(predict: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predictions of patches, and of the mirrored patches, both ``(B, K, *S)`` in the patches' own axes.

    Args:
        predict: From images to probabilities, ``(B, K, *S)``, without gradient.
        images: ``(B, C, *S)``.
    """
    return predict(images), predict(images.flip(IN_PLANE)).flip(IN_PLANE)


def dice_of_opinions(first: Tensor, second: Tensor, labels: Labels) -> Tensor:
    """Return the Dice of two predictions of each patch, ``(B, F)``, in [0, 1]; 1 where neither shows the channel.

    Args:
        first: Probabilities, ``(B, K, *S)``.
        second: Of another view of the same voxels.
        labels: What the channels mean.
    """
    one, other = (labels.hard(probs)[:, labels.first_foreground :].flatten(2) for probs in (first, second))
    smooth = SMOOTHING * one.shape[2]
    return (2 * (one * other).sum(dim=2) + smooth) / (one.sum(dim=2) + other.sum(dim=2) + smooth)


def alikeness(first: Tensor, second: Tensor, labels: Labels) -> Tensor:
    """Return how alike two predictions of each patch are, by channel, ``(B, F)``, in [0, 1]: the square of their Dice.

    The square is near the true Dice (docs/results.md). The gate weighs all voxels of a patch by the lowest of its
    active classes: one for all, since a class that counted more than the background around it would grow, and the
    lowest, since what one prediction misses in the background the other may have seen.

    Args:
        first: Probabilities, ``(B, K, *S)``.
        second: Of another view of the same voxels.
        labels: What the channels mean.

    Example:
        >>> import torch
        >>> labels = Labels.of_classes(2)
        >>> first = labels.hard(torch.tensor([[[0.0] * 5000 + [0.2] * 5000, [0.5] * 10000]]))
        >>> second = labels.hard(torch.tensor([[[0.9] * 7500 + [0.2] * 2500, [0.5] * 10000]]))
        >>> round(float(dice_of_opinions(first, second, labels)), 2), round(float(alikeness(first, second, labels)), 2)
        (0.4, 0.16)
    """
    return dice_of_opinions(first, second, labels).square()
