"""What the loader of unlabeled patches reads of stored pseudo-labels, whoever stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

CONFIDENCE_LEVELS = 255  # stored confidences are uint8: level / CONFIDENCE_LEVELS is in [0, 1]
NO_LABEL = -1  # in a pseudo-label: nothing is claimed about this voxel


class PseudoLabelRound(Protocol):
    """One finished round of pseudo-labels. Two rounds compare equal if they are the same."""

    def crop(self, case: str, box: list[list[int]], shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a patch of a case: label, int16, and confidence, uint8, ``(1, *S)`` each; ``None`` if it has none.

        Args:
            case: Name of the case.
            box: First voxel and one past the last along Z, Y, X; outside the volume there is ``NO_LABEL``.
            shape: Z, Y, X of the case's image.

        Raises:
            UserError: If the stored pseudo-label is damaged, or of an image of another shape.
        """

    def weight(self, case: str) -> float:
        """Return the weight of a case's label in [0, 1]: a label that is old counts less, all voxels alike."""

    def foreground_locations(self, case: str) -> dict[int, np.ndarray]:
        """Return label -> confident voxels, ``(n, 4)``, int32: 0, z, y, x, as nnU-Net's ``class_locations``.

        Raises:
            UserError: If the stored locations are damaged.
        """


class PseudoLabelSource(Protocol):
    """Where pseudo-labels come from; see :mod:`nnunet_semisam.pseudo_labels.store`."""

    def current(self) -> PseudoLabelRound | None:
        """Return the round to read, or ``None`` before the first one."""
