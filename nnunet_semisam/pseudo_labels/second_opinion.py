"""A second opinion on a case that costs no second network: its prediction of the mirrored image.

Nobody knows whether a prediction of an unlabeled case is right, but where an image is new to a network, it predicts the
mirrored image differently. The Dice between the two rises with the true Dice (docs/results.md, Reliability of
confidence). So it scales the confidence of a whole class in a case: a structure that was missed is then not taught as
background.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_semisam.labels import Labels

SMOOTHING = 0.05  # of the largest labeled volume of a class: a few voxels in one of two predictions are no dispute


@dataclass(frozen=True)
class SecondOpinion:
    """How alike two predictions of one case are.

    Attributes:
        alike: One minus the difference of the probabilities, ``(F, *S)``, float32, in [0, 1].
        dice: Dice of both predictions of each foreground channel, in [0, 1]; 1 where neither has it.
        shown: Whether either prediction has the channel.
    """

    alike: np.ndarray
    dice: tuple[float, ...]
    shown: tuple[bool, ...]

    @property
    def mean_dice(self) -> float | None:
        """Return the mean Dice over the channels that either prediction has; ``None`` if there are none."""
        found = [dice for dice, shown in zip(self.dice, self.shown, strict=True) if shown]
        return float(np.mean(found)) if found else None


def compare(
    first: np.ndarray, second: np.ndarray, labels: Labels, largest: Sequence[float] | None = None
) -> SecondOpinion:
    """Compare two predictions of one case.

    Args:
        first: Probabilities, ``(K, *S)``.
        second: Of another view, brought back to the same voxels.
        labels: What the channels mean.
        largest: Largest number of voxels of each foreground channel in a labeled case; ``None``: not known.
    """
    both = [labels.foreground(probs).astype(np.float32) for probs in (first, second)]
    label_maps = [labels.label_map(probs) for probs in both]
    dice, shown = [], []
    for f in range(labels.channels):
        one, other = (labels.members(label, f) for label in label_maps)
        total = int(one.sum()) + int(other.sum())
        smooth = 0.0 if largest is None else SMOOTHING * largest[f]
        dice.append((2 * int((one & other).sum()) + smooth) / (total + smooth) if total else 1.0)
        shown.append(total > 0)
    return SecondOpinion(1 - np.abs(both[0] - both[1]), tuple(dice), tuple(shown))
