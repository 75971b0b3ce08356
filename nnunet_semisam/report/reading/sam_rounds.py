"""What SAM did in a training: its calibrations, and its rounds with the figures of their cases put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_semisam.errors import UserError
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.round_log import HISTOGRAM_BINS, CalibrationRecord, CaseRecord, RoundRecord
from nnunet_semisam.pseudo_labels.round_summary import RoundSummary, summarize
from nnunet_semisam.report.reading.benchmark_folder import Benchmark


@dataclass(frozen=True)
class SamRound(RoundSummary):
    """A round of pseudo-labels, and how it ended.

    Attributes:
        active: Whether the labels are used; ``None`` if the round has no end on record.
        seconds: Time of the whole round; ``None`` likewise.
    """

    active: bool | None
    seconds: float | None


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


def read_rounds(benchmark: Benchmark) -> dict[str, SamRecord]:
    """Return run -> what SAM did in it; records that cannot be used are noted."""
    found = {}
    for run in benchmark.runs:
        problems: list[str] = []
        try:
            benchmark.file(run.training, round_log.FILE_NAME)
            found[run.name] = read_sam(benchmark.folder / run.training, problems)
        except UserError as error:
            problems.append(str(error))
        for problem in problems:
            benchmark.damage.note("records of SAM rounds", f"{run.name}: {problem.rstrip('.')}")
    return found


def read_sam(folder: Path, problems: list[str] | None = None) -> SamRecord:
    """Return what the record of rounds in nnU-Net's output folder says; empty where there is none.

    A case whose lists do not fit its classes is passed over, as is one with other classes than most of its training.

    Args:
        folder: Of the training.
        problems: Gets a sentence for all that was passed over.

    Raises:
        UserError: If the file is no regular file.
    """
    log = round_log.read(folder)
    complete = _of_most_classes([case for case in log.cases if _is_complete(case)])
    if problems is not None:
        problems += log.damaged
        problems += [
            f"round {one.round}, case {one.case}: its lists do not fit" for one in log.cases if one not in complete
        ]
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
    per_class = (
        case.agreement,
        case.confidence,
        case.confident_share,
        case.prompts,
        case.rejected,
        case.empty,
        case.weights,
    )
    if any(len(values) != len(case.names) for values in per_class):
        return False
    if len(case.histogram) != len(case.names) + 1:  # the background's, too
        return False
    return all(len(bins) == HISTOGRAM_BINS for bins in case.histogram)


def _of_most_classes(cases: Sequence[CaseRecord]) -> list[CaseRecord]:
    """Return the cases with the classes that most cases have: only these can be put together."""
    if not cases:
        return []
    ((names, _),) = Counter(case.names for case in cases).most_common(1)
    return [case for case in cases if case.names == names]


def _round(number: int, cases: Sequence[CaseRecord], end: RoundRecord | None) -> SamRound:
    if end is None:
        figures = summarize(number, cases[-1].epoch, cases)
        return SamRound(**vars(figures), active=None, seconds=None)
    figures = replace(summarize(number, end.epoch, cases), cases=end.cases)
    return SamRound(**vars(figures), active=end.active, seconds=end.seconds)
