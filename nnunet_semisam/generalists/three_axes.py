"""A 2D SAM that sees a volume along all three axes; a voxel is what at least two of them say.

Slices along several axes: SAM3D, Chan et al. 2024, https://arxiv.org/abs/2405.06786. The majority is ours.

Shapes in this file: ``F`` foreground classes or regions. Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, CaseResult, Generalist
from nnunet_semisam.generalists.sam_generalist import SAMParts
from nnunet_semisam.generalists.settings import THREE_AXES
from nnunet_semisam.sam.base import PromptBatch

AXES = 3
MAJORITY = 2


class Look(Protocol):
    """A generalist of one SAM that sees slices along one axis."""

    name: str
    channel: int
    axis: int
    parts: SAMParts

    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case."""

    def about(self) -> dict[str, str]:
        """Return name, weights and view."""

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts that a slice shows."""


class ThreeAxesGeneralist(Generalist):
    """The majority of three generalists of one SAM, each of which sees slices along another axis.

    One axis is predicted after the other: the memory holds the embeddings and the maps of one, and the votes.

    Args:
        looks: Along axis 0, 1 and 2, of one name.
        shown: Axis along which pictures show slices.
    """

    def __init__(self, looks: Sequence[Look], shown: int) -> None:
        self.looks, self.axis = tuple(looks), shown
        self.name, self.channel, self.parts = looks[0].name, looks[0].channel, looks[shown].parts

    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; counts are those of all axes, components those of the shown one."""
        votes, kept = Votes(), []
        for look in self.looks:
            result = look.predict_case(case)
            votes.add(result.prediction)
            kept.append((result.counts, result.seconds, result.cache_hit, result.components))
        all_counts, all_seconds, all_hits, components = zip(*kept, strict=True)
        counts = all_counts[0]
        for further in all_counts[1:]:
            counts = counts + further
        names = dict.fromkeys(name for seconds in all_seconds for name in seconds)
        seconds = {name: sum(each.get(name, 0.0) for each in all_seconds) for name in names}
        hits = [hit for hit in all_hits if hit is not None]
        return CaseResult(votes.majority(), counts, seconds, all(hits) if hits else None, components[self.axis])

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        return self.looks[self.axis].about() | {"view": THREE_AXES}

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts along the shown axis; see :class:`Generalist`."""
        return self.looks[self.axis].prompts_in_slice(result, index)


class Votes:
    """Counts what predictions of the same voxels say.

    Example:
        >>> def says(probability):
        ...     yes = np.ones((1, 1, 1, 1), dtype=bool)
        ...     return CasePrediction(probability * yes, np.ones((1, 1, 1, 1)), yes, ~yes)
        >>> votes = Votes()
        >>> for probability in (0.9, 0.7, 0.1):
        ...     votes.add(says(probability))
        >>> found = votes.majority()
        >>> round(float(found.probs.item()), 3), round(float(found.reliability.item()), 3)
        (0.8, 0.667)
    """

    def __init__(self) -> None:
        self._sums: list[dict[str, np.ndarray]] = []
        self._rejected: np.ndarray | None = None

    def add(self, prediction: CasePrediction) -> None:
        """Count a prediction with arrays ``(F, Z, Y, X)``, where it predicts and was not rejected."""
        if self._rejected is None:
            shape = prediction.probs.shape
            self._sums = [
                {"count": np.zeros(shape, np.uint8)}
                | {name: np.zeros(shape, np.float32) for name in ("probs", "reliability")}
                for _ in ("outside", "inside")
            ]
            self._rejected = np.zeros(shape, dtype=bool)
        counts, inside = prediction.predicted & ~prediction.rejected, prediction.probs > 0.5
        self._rejected |= prediction.rejected
        for sums, side in zip(self._sums, (counts & ~inside, counts & inside), strict=True):
            sums["count"] += side
            sums["probs"] += np.where(side, prediction.probs, 0)
            sums["reliability"] += np.where(side, prediction.reliability, 0)

    def majority(self) -> CasePrediction:
        """Return what at least two of three say: their mean probability; elsewhere nothing is predicted.

        Reliability is their mean reliability times their share of the three. A voxel without majority is rejected where
        a mask was rejected.

        Raises:
            ValueError: If nothing was added.
        """
        if self._rejected is None:
            raise ValueError("There is no majority of no votes: add predictions first.")
        outside, inside = self._sums
        wins = inside["count"] >= MAJORITY
        chosen = {name: np.where(wins, inside[name], outside[name]) for name in inside}
        predicted = chosen["count"] >= MAJORITY
        number = np.maximum(chosen["count"], 1).astype(np.float32)
        probs = np.where(predicted, chosen["probs"] / number, 0).astype(np.float32)
        reliability = np.where(predicted, chosen["reliability"] / AXES, 0).astype(np.float32)
        return CasePrediction(probs, reliability, predicted, self._rejected & ~predicted)
