"""What the loader of unlabeled patches reads of stored pseudo-labels, whoever stores them."""

from __future__ import annotations

from typing import Protocol

import blosc2
import numpy as np

CONFIDENCE_LEVELS = 255  # stored confidences are uint8: level / CONFIDENCE_LEVELS is in [0, 1]
NO_LABEL = -1  # in a pseudo-label: nothing is claimed about this voxel


class PseudoLabelRound(Protocol):
    """One finished round of pseudo-labels. Two rounds compare equal if they are the same."""

    def open(self, case: str) -> tuple[blosc2.NDArray, blosc2.NDArray] | None:
        """Open label ``(1, Z, Y, X)``, int8 or int16, and confidence ``(1, Z, Y, X)``, uint8; ``None`` if absent."""

    def foreground_locations(self, case: str) -> dict[int, np.ndarray]:
        """Return label -> confident voxels, ``(n, 4)``, int32: 0, z, y, x, as nnU-Net's ``class_locations``."""


class PseudoLabelSource(Protocol):
    """Where pseudo-labels come from; see :mod:`nnunet_semisam.pseudo_labels.store`."""

    def current(self) -> PseudoLabelRound | None:
        """Return the round to read, or ``None`` before the first one."""
