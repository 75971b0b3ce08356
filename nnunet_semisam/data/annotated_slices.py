"""How the annotated voxels of partly annotated cases lie: in whole slices, spread over the volume, or anyhow."""

from __future__ import annotations

import numpy as np

NEARLY_ALL = 0.98  # of the annotated voxels: resampling blurs the borders of slices


def slice_positions(annotated: np.ndarray) -> np.ndarray | None:
    """Return where the annotated slices of a case lie, ``(n,)``, in (0, 1); ``None`` if it is not annotated in slices.

    Slices may be along any axis; that with the fewest annotated ones is taken.

    Args:
        annotated: Which voxels have a label, ``(Z, Y, X)``, bool.

    Example:
        >>> label = np.zeros((4, 2, 2), dtype=bool)
        >>> label[[0, 3]] = True
        >>> slice_positions(label).tolist()
        [0.125, 0.875]
    """
    total, best = int(annotated.sum()), None
    for axis in range(annotated.ndim):
        others = tuple(other for other in range(annotated.ndim) if other != axis)
        share = annotated.mean(axis=others)
        whole = share >= NEARLY_ALL
        inside = float((share * whole).sum()) * annotated.size / annotated.shape[axis]
        if inside >= NEARLY_ALL * total and (best is None or whole.sum() < len(best)):
            best = (np.flatnonzero(whole) + 0.5) / annotated.shape[axis]
    return best


class Spread:
    """How the annotated slices of all partly annotated cases together are spread over the volumes; give it each case.

    Example:
        >>> label = np.zeros((4, 2, 2), dtype=bool)
        >>> label[[0, 3]] = True
        >>> spread = Spread()
        >>> spread.add(label)
        >>> spread.value()
        0.375
    """

    def __init__(self) -> None:
        self._positions: list[np.ndarray | None] = []
        self._whole = 0

    def add(self, annotated: np.ndarray) -> None:
        """Add a case: which voxels have a label, ``(Z, Y, X)``, bool."""
        if annotated.all():
            self._whole += len(annotated)
        elif annotated.any():
            self._positions.append(slice_positions(annotated))

    @property
    def number(self) -> int | None:
        """Return how many slices are annotated, those of whole cases with them; ``None`` if all cases are whole."""
        if not self._positions:
            return None
        return self._whole + sum(len(each) for each in self._positions if each is not None)

    def value(self) -> float:
        """Return the standard deviation of the positions of the annotated slices, in [0, 0.5].

        It is 0.29 for slices that are spread evenly, 0 for one slice at the same place in each case, and for cases that
        are not annotated in slices. 0.5 if all cases are annotated throughout.
        """
        if any(each is None for each in self._positions):
            return 0.0
        return float(np.concatenate(self._positions).std()) if self._positions else 0.5
