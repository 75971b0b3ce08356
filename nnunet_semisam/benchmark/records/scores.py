"""What was measured in a case: a number of one label, and the run that it is of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from nnunet_semisam.benchmark.records.runs import Run
from nnunet_semisam.errors import shown
from nnunet_semisam.io.typed_records import FileName, Name, RecordError, read_record, read_value


class ScoreStatus(str, Enum):
    """What a segmentation did with a label of a case; the members are listed worst first."""

    NO_PREDICTION = "no prediction"
    """There is no usable file."""
    MISSED = "missed"
    """In the ground truth only."""
    INVENTED = "invented"
    """Predicted only."""
    OK = "ok"
    ABSENT = "absent"
    """Neither in the ground truth nor predicted."""

    def __str__(self) -> str:
        return self.value

    @property
    def is_failure(self) -> bool:
        """Whether the label was missed or invented, or there is no usable segmentation."""
        return self in (ScoreStatus.NO_PREDICTION, ScoreStatus.MISSED, ScoreStatus.INVENTED)


def known(number: float | None) -> float | None:
    """Return a number, or ``None`` for NaN: the border between arithmetic and records."""
    return None if number is None or math.isnan(number) else float(number)


@dataclass(frozen=True)
class Score:
    """One number of one label in one case.

    Attributes:
        label: Name of the label or region, or ``mean``: over the labels of the case.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`. ``dice`` is in [0, 1]; ``hd95`` is the larger
            of the two directed 95th percentiles; ``assd`` is the mean over both surfaces; ``volume_error`` is
            absolute, ``volume_bias`` is predicted minus true.
        value: What was measured; ``None`` if it is undefined.
        scored: What means and tests use: ``value``, or the worst case where it is undefined. ``None`` only if the
            label is neither in the ground truth nor predicted, so that there is nothing to evaluate.
        status: What the segmentation did; of ``mean``, the worst of its labels.
        unit: That of ``UNITS``; of 2D images ``mm`` or ``px``, and ``mm2`` or ``px2`` for what is an area there.
    """

    label: Name
    metric: Name
    value: float | None
    scored: float | None
    status: ScoreStatus
    unit: Name

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> Score:
        """Return the score of an entry of ``scores.json``."""
        return read_record(cls, content, place)


@dataclass(frozen=True)
class ScoreRow:
    """One score with its place: a row of ``results.csv``.

    Attributes:
        run: The run.
        case: Identifier of the held-out case.
        group: Its group (patient).
        score: The score.
    """

    run: Run
    case: FileName
    group: Name
    score: Score

    def to_csv(self) -> dict[str, str]:
        """Return the cells of the row."""
        content = {
            "run": self.run.name,
            **asdict(self.run),
            "case": self.case,
            "group": self.group,
            **asdict(self.score),
        }
        return {name: "" if value is None else str(value) for name, value in content.items()}

    @classmethod
    def from_csv(cls, row: Mapping[str, str]) -> ScoreRow:
        """Return the row with these cells.

        Raises:
            RecordError: If a cell is none of its column's.
        """
        numbers = {name: _whole_number(row, name) for name in ("fold", "budget", "seed")}
        numbers |= {name: _number(row, name) for name in ("value", "scored")}
        content: dict[str, Any] = {**row, **numbers}
        run = read_record(Run, content, "")
        if row["run"] != run.name:
            raise RecordError(f"run is {row['run']!r}, and the cells beside it name {run.name!r}.")
        case, group = read_value(FileName, row["case"], "case"), read_value(Name, row["group"], "group")
        return cls(run, case, group, read_record(Score, content, ""))


def _whole_number(row: Mapping[str, str], name: str) -> int:
    text = row[name]
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        raise RecordError(f"{name} must be a whole number, got {shown(text)}.")
    return int(text)


def _number(row: Mapping[str, str], name: str) -> float | None:
    try:
        return float(row[name]) if row[name] else None
    except ValueError as error:
        raise RecordError(f"{name} must be a number or empty, got {shown(row[name])}.") from error
