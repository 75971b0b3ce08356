"""Which round of pseudo-labels the loaders read: one number that all workers share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from nnunet_semisam.data.pseudo_label_source import NO_LABEL
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.array_files import UNREADABLE
from nnunet_semisam.pseudo_labels.store import REMEDY, PseudoLabelStore

NO_ROUND = -1


@dataclass(frozen=True)
class Round:
    """One complete round, as the unlabeled loader reads it.

    Attributes:
        store: Where it lies.
        index: Its number.
        highest_label: Largest label that may be in it; ``None``: not known.
        age_decay: Factor on the weight of a label for each round since it was made, in (0, 1].
    """

    store: PseudoLabelStore
    index: int
    highest_label: int | None = None
    age_decay: float = 1.0

    def crop(self, case: str, box: list[list[int]], shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a patch of a case; see :class:`~nnunet_semisam.data.pseudo_label_source.PseudoLabelRound`."""
        if not self._has(case):
            return None
        label, confidence = self.store.open(case, self.index)
        folder = self.store.folder(self.index)
        if tuple(label.shape[1:]) != tuple(shape):
            raise UserError(
                f"The pseudo-label of {case!r} in {folder} has {label.shape[1:]} voxels, its image {tuple(shape)}. "
                f"{REMEDY}"
            )
        try:
            patches = crop_and_pad_nd(label, box, NO_LABEL), crop_and_pad_nd(confidence, box, 0)
        except UNREADABLE as error:
            raise UserError(
                f"The pseudo-label of {case!r} in {folder} is damaged inside ({printable(str(error), 200)}). {REMEDY}"
            ) from error
        highest = int(patches[0].max())
        if self.highest_label is not None and (highest > self.highest_label or patches[0].min() < NO_LABEL):
            raise UserError(
                f"The pseudo-label of {case!r} in {folder} is damaged inside: it holds the label {highest}, and "
                f"{self.highest_label} is the highest. {REMEDY}"
            )
        return patches[0].astype(np.int16), patches[1]

    def weight(self, case: str) -> float:
        """Return the weight of a case's label: the network has changed since an older one was made.

        It is no factor on the confidence, which a threshold follows: foreground, of a lower confidence, would be
        ignored long before the background, and the label would then teach background alone.
        """
        if self.age_decay == 1 or not self._has(case):
            return 1.0
        return self.age_decay ** max(0, self.index - self.store.made_in(case, self.index))

    def foreground_locations(self, case: str) -> dict[int, np.ndarray]:
        """Return confident voxels of each label, ``(n, 4)``; empty if the case has no pseudo-label yet."""
        if not self._has(case):
            return {}
        label, _ = self.store.open(case, self.index)
        found = self.store.locations(case, self.index)
        for places in found.values():
            if len(places) and (places.min() < 0 or (places.max(axis=0) >= label.shape).any()):
                raise UserError(
                    f"The locations of {case!r} in {self.store.folder(self.index)} lie outside it. {REMEDY}"
                )
        return found

    def _has(self, case: str) -> bool:
        folder = self.store.folder(self.index)
        if (folder / "label" / f"{case}.b2nd").is_file():
            return True
        if not folder.is_dir():
            raise UserError(f"The round of pseudo-labels {folder} is gone. {REMEDY}")
        return False


class RoundReader:
    """Tells workers that already run which round to read; travels to spawned and forked workers alike.

    Args:
        root: Folder of the store.
        patch_size: Patch of the configuration.
        highest_label: Largest label that a pseudo-label may hold; ``None``: any.
        age_decay: See :class:`Round`.
    """

    def __init__(
        self, root: Path, patch_size: list[int], highest_label: int | None = None, age_decay: float = 1.0
    ) -> None:
        self.store, self.highest_label = PseudoLabelStore(root, patch_size), highest_label
        self.age_decay = age_decay
        self._index = multiprocessing.get_context("spawn").Value("i", NO_ROUND)  # forked workers inherit it as well

    def point_to(self, index: int | None) -> None:
        """Let all workers read this round from their next batch on; ``None``: none."""
        self._index.value = NO_ROUND if index is None else index

    def current(self) -> Round | None:
        """Return the round to read, or ``None`` before the first."""
        index = self._index.value
        return None if index == NO_ROUND else Round(self.store, index, self.highest_label, self.age_decay)
