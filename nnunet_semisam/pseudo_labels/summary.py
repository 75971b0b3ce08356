"""What a round did, in numbers: a record per case, a line per round.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    )


def histogram(confidence: np.ndarray) -> tuple[int, ...]:
    """Return how many values in [0, 1] fall into each of ten equal bins; 1 belongs to the last."""
    counts, _ = np.histogram(confidence, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return tuple(int(count) for count in counts)


@dataclass(frozen=True)
class RoundSummary:
    """A round over the cases it refreshed. Tuples have one entry per foreground class or region.

    Attributes:
        round_index: Number of the round.
        epoch: Epoch of the network.
        cases: How many cases were refreshed.
        agreement: Mean Dice between specialist and generalist where it predicted; ``None`` where it never did.
        confidence: Mean confidence in the voxels of the class; ``None`` where no case shows it.
        prompts: How many components the generalist was prompted with.
        rejected: How many masks were rejected, empty ones included.
        confident_share_all: Share of all voxels that pass the confidence threshold.
        seconds: Time by part of the work: load, predict, encode, decode, fuse.
        cache_hit_rate: Share of the needed embeddings that were cached; ``None`` if none was needed.
    """

    round_index: int
    epoch: int
    cases: int
    agreement: tuple[float | None, ...]
    confidence: tuple[float | None, ...]
    prompts: tuple[int, ...]
    rejected: tuple[int, ...]
    confident_share_all: float | None
    seconds: dict[str, float]
    cache_hit_rate: float | None

    def log_text(self) -> str:
        """Return one line; the rest is in the records of rounds."""
        confident = "-" if self.confident_share_all is None else f"{100 * self.confident_share_all:.0f} %"
        return (
            f"Pseudo-labels, round {self.round_index}: {self.cases} cases in {sum(self.seconds.values()):.1f} s, "
            f"{sum(self.prompts)} prompts, {sum(self.rejected)} masks rejected, {confident} of the voxels confident"
        )


def summarize(round_index: int, epoch: int, records: Sequence[CaseRecord]) -> RoundSummary:
    """Return the summary of the cases of a round."""
    classes = range(len(records[0].names)) if records else range(0)
    parts = dict.fromkeys(name for record in records for name in record.seconds)  # generalists may skip some
    hits = [float(record.cache_hit) for record in records if record.cache_hit is not None]
    return RoundSummary(
        round_index=round_index,
        epoch=epoch,
        cases=len(records),
        agreement=tuple(_mean([record.agreement[f] for record in records]) for f in classes),
        confidence=tuple(_mean([record.confidence[f] for record in records]) for f in classes),
        prompts=tuple(sum(record.prompts[f] for record in records) for f in classes),
        rejected=tuple(sum(record.rejected[f] for record in records) for f in classes),
        confident_share_all=_mean([record.confident_share_all for record in records]),
        seconds={name: sum(record.seconds.get(name, 0.0) for record in records) for name in parts},
        cache_hit_rate=_mean(hits),
    )


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the Dice coefficient of two masks in [0, 1]; ``None`` if both are empty: then it is not defined."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
