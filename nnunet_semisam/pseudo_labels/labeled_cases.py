"""What the stage may learn from labeled training cases: their truth for the calibration, and areas of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_semisam.labels import Labels


class LabeledCases:
    """The labeled training cases of the fold, and no others: neither validation cases nor hidden ones.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with the fold's training cases only.
        layout: Which channel means what.
    """

    def __init__(self, dataset: Any, layout: Labels) -> None:
        self.dataset = dataset
        self.layout = layout

    @property
    def cases(self) -> list[str]:
        """Return the names of the cases."""
        return list(self.dataset.identifiers)

    def load_image(self, case: str) -> np.ndarray:
        """Return ``(C, Z, Y, X)``, float32."""
        return self.dataset.load_case(case)[0][:]

    def load_truth(self, case: str) -> np.ndarray:
        """Return the label map, ``(Z, Y, X)``, int16; nnU-Net's -1 (outside the nonzero mask) becomes background."""
        return np.maximum(self.dataset.load_case(case)[1][:][0], 0).astype(np.int16)

    def area_bounds(self) -> Sequence[tuple[float, float]]:
        """Return the smallest and the largest share of a case's voxels of each class or region, in [0, 1]."""
        shares = np.array([self._shares(case) for case in self.cases])
        return [(float(low), float(high)) for low, high in zip(shares.min(axis=0), shares.max(axis=0), strict=True)]

    def _shares(self, case: str) -> list[float]:
        truth = self.load_truth(case)
        return [float(self.layout.members(truth, f).mean()) for f in range(self.layout.channels)]
