"""A prior from labeled cases: what is one piece there is one piece in a pseudo-label, too.

A network that is trained further on its own opinion grows what it invents: an island somewhere in the body that looks
like a ventricle, confirmed by a SAM that knows edges but no anatomy. nnU-Net removes such islands after prediction
where keeping the largest component helps; here they are removed before anything is learned from them, and what they
covered becomes background.

Shapes in this file: ``F`` foreground classes or regions, volumes ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from nnunet_semisam.labels import Labels

ONE_PIECE = 0.98  # share of the largest component from which a structure counts as one piece
NEIGHBOURS = 26  # thick slices meet at corners


@dataclass(frozen=True)
class PiecePrior:
    """Which structures are one piece in every labeled case.

    Attributes:
        whole: Whether all foreground together is.
        classes: Which foreground channels are; all False for overlapping regions.
    """

    whole: bool
    classes: tuple[bool, ...]

    @classmethod
    def from_cases(cls, truths: Iterable[np.ndarray], layout: Labels) -> PiecePrior:
        """Look at label maps ``(Z, Y, X)`` of labeled cases; a structure that no case shows counts as many pieces."""
        verdicts = []  # per case: of all foreground together, then of each channel
        for truth in truths:
            members = [layout.members(truth, f) for f in range(layout.channels)]
            verdicts.append([is_one_piece(mask) for mask in (np.any(members, axis=0), *members)])
        whole, *classes = (_always(column) for column in zip(*verdicts, strict=True))
        return cls(whole, tuple(single and not layout.has_regions for single in classes))

    def stray(self, label: np.ndarray, layout: Labels, expected: Sequence[float]) -> np.ndarray:
        """Return the foreground voxels that lie outside of the one piece that they should belong to.

        Args:
            label: Label map, ``(Z, Y, X)``.
            layout: Which channel means what.
            expected: Voxels that each channel has at most in labeled cases. A piece is judged by the voxels it
                gives each class, counted up to this number: a huge island of one class must not win over a heart.

        Returns:
            ``(Z, Y, X)``, bool.
        """
        stray = np.zeros(label.shape, dtype=bool)
        members = [layout.members(label, f) for f in range(layout.channels)]
        if self.whole:
            stray |= _outside_best(np.any(members, axis=0), members, expected)
        for member, single in zip(members, self.classes, strict=True):
            if single:
                left = member & ~stray
                stray |= _outside_best(left, [left], [np.inf])
        return stray


def _always(verdicts: Sequence[bool | None]) -> bool:
    """Return whether every case that shows a structure shows one piece, and at least one case shows it."""
    seen = [verdict for verdict in verdicts if verdict is not None]
    return bool(seen) and all(seen)


def is_one_piece(mask: np.ndarray) -> bool | None:
    """Return whether the largest component holds nearly all of ``mask``; ``None`` if it is empty."""
    if not mask.any():
        return None
    counts = np.bincount(cc3d.connected_components(mask, connectivity=NEIGHBOURS).ravel())[1:]
    return bool(counts.max() >= ONE_PIECE * counts.sum())


def _outside_best(mask: np.ndarray, members: Sequence[np.ndarray], limits: Sequence[float]) -> np.ndarray:
    """Return ``mask`` without its best component: the one of the most member voxels, each kind up to its limit."""
    numbered, count = cc3d.connected_components(mask, connectivity=NEIGHBOURS, return_N=True)
    if count < 2:
        return np.zeros(mask.shape, dtype=bool)
    score = np.zeros(count + 1)
    for member, limit in zip(members, limits, strict=True):
        score += np.minimum(np.bincount(numbered[member & mask], minlength=count + 1), limit)
    score[0] = -1
    return mask & (numbered != score.argmax())
