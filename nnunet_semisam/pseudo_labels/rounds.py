"""Which round of pseudo-labels the loaders read: one number that all workers share."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np

from nnunet_semisam.pseudo_labels.store import PseudoLabelStore

NO_ROUND = -1


@dataclass(frozen=True)
class Round:
    """One complete round, as the unlabeled loader reads it.

    Attributes:
        store: Where it lies.
        index: Its number.
    """

    store: PseudoLabelStore
    index: int

    def open(self, case: str) -> tuple[blosc2.NDArray, blosc2.NDArray] | None:
        """Return label and confidence of a case for partial reads, ``(1, Z, Y, X)`` each; ``None`` if it has none."""
        if not self._has(case):
            return None
        return self.store.open(case, self.index)

    def foreground_locations(self, case: str) -> dict[int, np.ndarray]:
        """Return confident voxels of each label, ``(n, 4)``; empty if the case has no pseudo-label yet."""
        return self.store.locations(case, self.index) if self._has(case) else {}

    def _has(self, case: str) -> bool:
        return (self.store.folder(self.index) / "label" / f"{case}.b2nd").is_file()


class RoundReader:
    """Tells workers that already run which round to read; travels to spawned and forked workers alike.

    Args:
        root: Folder of the store.
        patch_size: Patch of the configuration.
    """

    def __init__(self, root: Path, patch_size: list[int]) -> None:
        self.store = PseudoLabelStore(root, patch_size)
        self._index = multiprocessing.get_context("spawn").Value("i", NO_ROUND)  # forked workers inherit it as well

    def point_to(self, index: int | None) -> None:
        """Let all workers read this round from their next batch on; ``None``: none."""
        self._index.value = NO_ROUND if index is None else index

    def current(self) -> Round | None:
        """Return the round to read, or ``None`` before the first."""
        index = self._index.value
        return None if index == NO_ROUND else Round(self.store, index)
