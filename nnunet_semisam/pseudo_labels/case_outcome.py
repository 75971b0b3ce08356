"""What became of a case in a round, in numbers: its record.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_semisam.generalists.base import CaseResult
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import FusedLabel
from nnunet_semisam.pseudo_labels.round_log import HISTOGRAM_BINS, CaseRecord


@dataclass(frozen=True)
class CaseOutcome:
    """Everything that became of one case in a round.

    Attributes:
        specialist: The network's probabilities, ``(K, *S)``.
        result: The generalist's, with arrays ``(F, *S)``.
        fused: The pseudo-label.
        weights: Weight of the generalist in each foreground channel at the time.
        seconds: Time by part of the work.
    """

    specialist: np.ndarray
    result: CaseResult
    fused: FusedLabel
    weights: tuple[float, ...]
    seconds: dict[str, float]


def case_record(
    round_index: int, epoch: int, case: str, outcome: CaseOutcome, labels: Labels, confidence_threshold: float
) -> CaseRecord:
    """Return the record of one case.

    Args:
        round_index: Number of the round.
        epoch: Epoch of the network.
        case: Name of the case.
        outcome: What became of it.
        labels: What the channels mean.
        confidence_threshold: Confidence from which a voxel is used in the loss.
    """
    own = labels.label_map(labels.foreground(outcome.specialist))
    prediction, fused = outcome.result.prediction, outcome.fused
    agreement, confidence, confident_share = [], [], []
    for f in range(labels.channels):
        predicted = prediction.predicted[f]
        agreement.append(dice(labels.members(own, f) & predicted, (prediction.probs[f] > 0.5) & predicted))
        mine = fused.confidence[labels.members(fused.label, f)]
        confidence.append(float(mine.mean()) if mine.size else None)
        confident_share.append(float((mine >= confidence_threshold).mean()) if mine.size else None)
    members = [fused.label == 0, *(labels.members(fused.label, f) for f in range(labels.channels))]
    counts = outcome.result.counts
    return CaseRecord(
        round=round_index,
        epoch=epoch,
        case=case,
        names=tuple(labels.names),
        agreement=tuple(agreement),
        confidence=tuple(confidence),
        confident_share=tuple(confident_share),
        prompts=counts.prompts,
        rejected=counts.rejected,
        empty=counts.empty,
        weights=outcome.weights,
        confident_share_all=float((fused.confidence >= confidence_threshold).mean()),
        histogram=tuple(histogram(fused.confidence[mask]) for mask in members),
        seconds={**outcome.seconds, **outcome.result.seconds},
        cache_hit=outcome.result.cache_hit,
        seconds_by_generalist=outcome.result.seconds_by_generalist,
    )


def histogram(confidence: np.ndarray) -> tuple[int, ...]:
    """Return how many values in [0, 1] fall into each of ten equal bins; 1 belongs to the last."""
    counts, _ = np.histogram(confidence, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return tuple(int(count) for count in counts)


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the Dice coefficient of two masks in [0, 1]; ``None`` if both are empty: then it is not defined."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else None
