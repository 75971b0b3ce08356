"""From a teacher's probabilities to a label map with an ignore label, and to estimates of how good it is.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``Z, Y, X`` the axes of
the raw image as nnU-Net's reader gives them.
"""

from __future__ import annotations

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
    return sorted(best[: max(1, round(share * len(best)))])
