"""What SAM did in a training: its calibrations, and its rounds with the figures of their cases put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import HISTOGRAM_BINS, CalibrationRecord, CaseRecord, RoundRecord


@dataclass(frozen=True)
class ClassInRound:
    """Figures of one class or region over the cases of a round.

    Attributes:
        name: The label, or the labels of the region (``1+2``).
        agreement: Mean Dice between network and SAM over the cases where SAM answered; ``None`` if it never did.
        confidence: Mean confidence in [0, 1] of the class's voxels, over the cases that show it; ``None`` if none does.
        confident_share: Share of those voxels that pass the confidence threshold; ``None`` likewise.
        prompts: How many components SAM was prompted with.
        rejected: How many masks were rejected, empty ones included.
        empty: How many masks were empty.
        weight: Share of SAM in the fused probability at the time.
        histogram: Voxels by confidence, bins of equal width over [0, 1].
    """

    name: str
    agreement: float | None
    confidence: float | None
    confident_share: float | None
    prompts: int
    rejected: int
    empty: int
    weight: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class SamRound:
    """A round of pseudo-labels.

    Attributes:
        number: Number of the round.
        epoch: Epoch of the network whose predictions prompted SAM.
        cases: How many cases were refreshed.
        active: Whether the labels are used; ``None`` if the round has no end on record.
        seconds: Time of the whole round; ``None`` likewise.
        seconds_by_part: Time by part of the work (load, predict, encode, ...), sums over the cases.
        confident_share: Share of all voxels that pass the threshold; ``None`` without a case.
        cache_hit_rate: Share of the needed embeddings that were cached; ``None`` if none was needed.
        classes: One entry per foreground class or region; none without a case.
    """

    number: int
    epoch: int
    cases: int
    active: bool | None
    seconds: float | None
    seconds_by_part: dict[str, float]
    confident_share: float | None
    cache_hit_rate: float | None
    classes: tuple[ClassInRound, ...]


@dataclass(frozen=True)
class SamRecord:
    """What SAM did in a training.

    Attributes:
        rounds: By their numbers, ascending.
        calibrations: In the order of their rounds.
    """

    rounds: tuple[SamRound, ...] = ()
    calibrations: tuple[CalibrationRecord, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the training used no SAM."""
        return not self.rounds and not self.calibrations


def read_sam(folder: Path) -> SamRecord:
    """Return what the record of rounds in nnU-Net's output folder says; empty where there is none.

    A case whose lists do not fit its classes is passed over, as is one with other classes than most of its training.
    """
    log = round_log.read(folder)
    complete = _of_most_classes([case for case in log.cases if _is_complete(case)])
    ends = {end.round: end for end in log.rounds}
    numbers = sorted({*ends, *(case.round for case in complete)})
    rounds = []
    for number in numbers:
        cases = [case for case in complete if case.round == number]
        rounds.append(_round(number, cases, ends.get(number)))
    calibrations = sorted(log.calibrations, key=lambda record: record.round)
    return SamRecord(tuple(rounds), tuple(calibrations))


def _is_complete(case: CaseRecord) -> bool:
    """Return whether every list has its entry for every class, and every histogram all its bins."""
    if not isinstance(case.names, tuple) or not all(isinstance(name, str) for name in case.names):
        return False
    if not isinstance(case.seconds, dict):
        return False
    per_class = (
        case.agreement,
        case.confidence,
        case.confident_share,
        case.prompts,
        case.rejected,
        case.empty,
        case.weights,
    )
    if not all(_has_length(values, len(case.names)) for values in per_class):
        return False
    if not _has_length(case.histogram, len(case.names) + 1):  # the background's, too
        return False
    return all(_has_length(bins, HISTOGRAM_BINS) for bins in case.histogram)


def _has_length(values: object, length: int) -> bool:
    return isinstance(values, tuple) and len(values) == length


def _of_most_classes(cases: Sequence[CaseRecord]) -> list[CaseRecord]:
    """Return the cases with the classes that most cases have: only these can be put together."""
    if not cases:
        return []
    ((names, _),) = Counter(case.names for case in cases).most_common(1)
    return [case for case in cases if case.names == names]


def _round(number: int, cases: Sequence[CaseRecord], end: RoundRecord | None) -> SamRound:
    seconds_by_part: dict[str, float] = {}
    for case in cases:
        for part, seconds in case.seconds.items():
            seconds_by_part[part] = seconds_by_part.get(part, 0.0) + seconds
    return SamRound(
        number=number,
        epoch=cases[-1].epoch if end is None else end.epoch,
        cases=len(cases) if end is None else end.cases,
        active=None if end is None else end.active,
        seconds=None if end is None else end.seconds,
        seconds_by_part=seconds_by_part,
        confident_share=_mean(case.confident_share_all for case in cases),
        cache_hit_rate=_mean(case.cache_hit for case in cases),
        classes=_classes(cases),
    )


def _classes(cases: Sequence[CaseRecord]) -> tuple[ClassInRound, ...]:
    if not cases:
        return ()
    names = cases[0].names  # the same in all cases of a training
    return tuple(_class_in_round(cases, index, name) for index, name in enumerate(names))


def _class_in_round(cases: Sequence[CaseRecord], index: int, name: str) -> ClassInRound:
    histograms = [case.histogram[index + 1] for case in cases]  # the first one is the background's
    return ClassInRound(
        name=name,
        agreement=_mean(case.agreement[index] for case in cases),
        confidence=_mean(case.confidence[index] for case in cases),
        confident_share=_mean(case.confident_share[index] for case in cases),
        prompts=sum(case.prompts[index] for case in cases),
        rejected=sum(case.rejected[index] for case in cases),
        empty=sum(case.empty[index] for case in cases),
        weight=cases[-1].weights[index],
        histogram=tuple(sum(voxels) for voxels in zip(*histograms, strict=True)),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
