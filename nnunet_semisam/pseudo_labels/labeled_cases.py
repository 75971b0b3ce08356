"""What may be learned from labeled training cases: their labels for the calibration, areas and connectivity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnunet_semisam.data.labeled_files import reading_labeled_case
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.connectivity import ConnectivityPrior, ConnectivitySettings
from nnunet_semisam.pseudo_labels.fusion import CasePriors


class LabeledCases:
    """The labeled training cases of the fold, and no others: neither validation cases nor hidden ones.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with the fold's training cases only.
        labels: What the network's output channels mean.
        group_of: Tells the patient of a case; by default each case is a patient.
    """

    def __init__(self, dataset: Any, labels: Labels, group_of: Callable[[str], str] = str) -> None:
        self.dataset, self.labels, self.group_of = dataset, labels, group_of

    @property
    def cases(self) -> list[str]:
        """Return the names of the cases."""
        return list(self.dataset.identifiers)

    def load_image(self, case: str) -> np.ndarray:
        """Return ``(C, Z, Y, X)``, float32."""
        return self._read(case, 0)

    def load_label(self, case: str) -> np.ndarray:
        """Return the label map, ``(Z, Y, X)``, int16; nnU-Net's -1 (outside the nonzero mask) becomes background."""
        return np.maximum(self._read(case, 1)[0], 0).astype(np.int16)

    def _read(self, case: str, part: int) -> np.ndarray:
        """Return image (0) or label (1) of a case.

        Raises:
            UserError: If its files are damaged.
        """
        with reading_labeled_case(case):
            return self.dataset.load_case(case)[part][:]

    def priors(self, connectivity: ConnectivitySettings) -> CasePriors:
        """Return areas of all cases, and the connectivity of those that are annotated throughout.

        Voxels of the ignore label may be of any class: a class takes at least what is annotated as it, and at most that
        and all ignored voxels. Whether parts that are annotated here and there are connected nobody knows.
        """
        bounds = np.array([self._share_bounds(self.load_label(case)) for case in self.cases])  # (cases, F, 2)
        lowest, highest = bounds[..., 0].min(axis=0), bounds[..., 1].max(axis=0)
        area_bounds = [(float(low), float(high)) for low, high in zip(lowest, highest, strict=True)]
        whole = [case for case in self.cases if not self._ignored(self.load_label(case)).any()]
        if not whole:
            return CasePriors(area_bounds, ConnectivityPrior.without_cases(self.labels, connectivity))
        label_maps = (self.load_label(case) for case in whole)
        patients = len({self.group_of(case) for case in whole})
        return CasePriors(area_bounds, ConnectivityPrior.from_cases(label_maps, self.labels, patients, connectivity))

    def _ignored(self, label: np.ndarray) -> np.ndarray:
        """Return where a label map ``(Z, Y, X)`` has the ignore label, nnU-Net's highest number."""
        return label > max(self.labels.foreground_labels)

    def _share_bounds(self, label: np.ndarray) -> list[tuple[float, float]]:
        """Return the smallest and largest possible share of the voxels of each class or region, in [0, 1]."""
        ignored = float(self._ignored(label).mean())
        shares = [float(self.labels.members(label, f).mean()) for f in range(self.labels.channels)]
        return [(share, share + ignored) for share in shares]
