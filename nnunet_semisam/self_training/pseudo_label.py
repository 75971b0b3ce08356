"""From a teacher's probabilities to a label map with an ignore label, and to estimates of how good it is.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``Z, Y, X`` the axes of
the raw image as nnU-Net's reader gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_semisam.labels import Labels


def certainty(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """Return how certain probabilities ``(K, Z, Y, X)`` are, ``(Z, Y, X)``, float32, in [0, 1].

    The probability of the winning class; for regions the certainty of the least certain one, which is at least 0.5.
    """
    return labels.certainty(torch.from_numpy(np.ascontiguousarray(probabilities, dtype=np.float32))[None])[0, 0].numpy()


def with_ignore(label_map: np.ndarray, certain: np.ndarray, threshold: float, ignore: int) -> np.ndarray:
    """Return a label map ``(Z, Y, X)`` in which voxels whose certainty is below a threshold have the ignore label.

    Example:
        >>> with_ignore(np.array([0, 1, 2]), np.array([0.9, 0.7, 0.6]), 0.7, 3).tolist()
        [0, 1, 3]
    """
    kind = np.uint8 if ignore < 256 else np.uint16
    return np.where(certain >= threshold, label_map, ignore).astype(kind)


@dataclass(frozen=True)
class SAMOpinion:
    """What teacher and SAMs say together of a raw image; all arrays ``(Z, Y, X)``.

    Attributes:
        label: The fused label map, int16.
        confidence: How likely it is right, float32, in [0, 1].
        asked: Where a SAM was asked about a class that it contributes to, bool.
    """

    label: np.ndarray
    confidence: np.ndarray
    asked: np.ndarray


def with_sam(
    by_teacher: np.ndarray,
    predicted: np.ndarray,
    opinion: SAMOpinion,
    active: Sequence[bool],
    labels: Labels,
    threshold: float,
    ignore: int,
) -> np.ndarray:
    """Return the pseudo-label ``(Z, Y, X)`` of teacher and SAMs.

    The fused label counts where a SAM was asked, and in voxels that it or the teacher gives to a class to which a SAM
    contributes; below the threshold they are ignored. All others are the teacher's, above all those of a class to which
    no SAM contributes: the class is labelled as without a SAM, voxel by voxel. A voxel that a SAM takes from its class
    and that then falls to one of these is ignored. With regions a voxel is in several: the fused label counts where a
    SAM contributes to one of them, and the voxel is ignored if it contradicts the teacher about another one.

    Args:
        by_teacher: The teacher's pseudo-label, with the ignore label.
        predicted: The teacher's label map, without it.
        opinion: What both say together.
        active: Whether a SAM contributes to a foreground channel, ``F`` entries.
        labels: What the channels mean.
        threshold: Confidence of the fused label below which a voxel is ignored.
        ignore: The ignore label.

    Example:
        A SAM contributes to class 1 and was asked about the first three voxels, it is not sure of the third; of the
        last two the teacher is, and knows nothing of the fifth.

        >>> fused = SAMOpinion(np.array([1, 0, 1, 2, 0]), np.array([0.8, 0.6, 0.4, 0.1, 0.1]), np.arange(5) < 3)
        >>> teacher, predicted = np.array([3, 3, 1, 2, 3]), np.array([1, 1, 1, 2, 0])
        >>> with_sam(teacher, predicted, fused, [True, False], Labels.of_classes(3), 0.5, 3).tolist()
        [1, 0, 3, 2, 3]
    """
    counts, contradicts = opinion.asked.copy(), np.zeros(predicted.shape, dtype=bool)
    channels = [(labels.members(predicted, f), labels.members(opinion.label, f)) for f in range(labels.channels)]
    for helped, (of_teacher, fused) in zip(active, channels, strict=True):
        if helped:
            counts |= of_teacher | fused
        else:
            contradicts |= of_teacher != fused
    for helped, (of_teacher, _) in zip(active, channels, strict=True):
        if not helped and not labels.has_regions:
            counts &= ~of_teacher
    sure = (opinion.confidence >= threshold) & ~contradicts
    return np.where(counts, np.where(sure, opinion.label, ignore), by_teacher).astype(by_teacher.dtype)


def mean_confidence(label_map: np.ndarray, certain: np.ndarray) -> float | None:
    """Return the mean certainty of predicted foreground, in [0, 1]; ``None`` if there is none.

    Args:
        label_map: The prediction, ``(Z, Y, X)``.
        certain: Its certainty, ``(Z, Y, X)``.
    """
    foreground = label_map > 0
    return float(certain[foreground].mean(dtype=np.float64)) if foreground.any() else None


def agreement(first: np.ndarray, second: np.ndarray, labels: Labels) -> float | None:
    """Return the mean Dice between two label maps over the classes or regions that either has; ``None`` without any.

    Of one prediction with and one without mirroring it is an estimate of quality that needs no label.
    """
    found = []
    for channel in range(labels.channels):
        one, two = labels.members(first, channel), labels.members(second, channel)
        size = int(one.sum()) + int(two.sum())
        if size:
            found.append(2 * int((one & two).sum()) / size)
    return float(np.mean(found)) if found else None


def choose(qualities: dict[str, float | None], share: float) -> list[str]:
    """Return the best share of cases, sorted by name: at least one, those without an estimate last.

    Args:
        qualities: Case -> estimated quality.
        share: In [0, 1].

    Example:
        >>> choose({"a": 0.2, "b": None, "c": 0.9, "d": 0.5}, 0.5)
        ['c', 'd']
    """
    if not qualities:
        return []
    best = sorted(qualities, key=lambda case: (-1.0 if qualities[case] is None else -qualities[case] - 2, case))
    return sorted(best[: count_of(share, len(best))])


def count_of(share: float, cases: int) -> int:
    """Return how many cases a share of some is: at least one; 0.9 of four are all of them."""
    return max(1, round(share * cases))
