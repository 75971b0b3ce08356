"""The records that travel between the modules of a benchmark and to its report, and their form in its files.

Numbers that do not exist are ``None`` here, null in json and empty in csv; there is no NaN. The types of the fields
say what a file may hold (see ``io/typed_records.py``): every ``from_json`` raises a
:class:`~nnunet_semisam.io.typed_records.RecordError` that names the entry if something is missing or of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from nnunet_semisam.errors import name_some, shown
from nnunet_semisam.io.typed_records import (
    Amount,
    ClassName,
    Count,
    FileName,
    InnerPath,
    Name,
    RecordError,
    Share,
    read_record,
    read_value,
)
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs.attempts import Software


class Equal(str, Enum):
    """What the trainers of a benchmark have in common."""

    STEPS = "steps"
    TIME = "time"


class CaseSet(str, Enum):
    """Which cases the runs are evaluated on."""

    TEST = "test"
    """Those of ``imagesTs``."""
    VAL = "val"
    """The validation cases of each run's fold."""


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
class Run:
    """One training and its evaluation.

    Attributes:
        trainer: Class name, for ``-tr``.
        configuration: For example ``2d``.
        fold: Index in ``splits_final.json``.
        budget: Number of labeled groups (patients) of the fold.
        seed: Seed of the training.
    """

    trainer: ClassName
    configuration: FileName
    fold: Count
    budget: Count
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.trainer}__{self.configuration}__fold_{self.fold}__seed_{self.seed}"


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


@dataclass(frozen=True)
class StudyFold:
    """A fold that a benchmark trains on.

    Attributes:
        budget: Number of labeled groups (patients).
        sha256: Digest of which cases it trains on, validates on and hides the labels of.
    """

    budget: Count
    sha256: str


@dataclass(frozen=True)
class UnlabeledImages:
    """The images of ``imagesUl`` when a benchmark was begun.

    Attributes:
        cases: How many there were.
        sha256: Digest of their names.
    """

    cases: Count
    sha256: str


@dataclass(frozen=True)
class HeldOutSet:
    """A set of cases that a benchmark is evaluated on, as it was when the benchmark was begun.

    Attributes:
        digests: Case -> digest of its images and its label.
    """

    digests: dict[FileName, str]

    def changes(self, now: HeldOutSet) -> str:
        """Return in words how a later set differs."""
        old, new = self.digests, now.digests
        lists = {
            "new": sorted(new.keys() - old.keys()),
            "gone": sorted(old.keys() - new.keys()),
            "other files": sorted(case for case in old.keys() & new.keys() if old[case] != new[case]),
        }
        return "; ".join(f"{name}: {name_some(cases)}" for name, cases in lists.items() if cases)


@dataclass(frozen=True)
class Cost:
    """What a run cost, over all its starts; those that were killed count.

    Attributes:
        train_hours: Of trainings, nnU-Net's own validation, and of labelling the pool in self-training.
        predict_hours: Of the prediction of held-out cases.
        gpu_hours: Those of both that had a GPU.
        attempts: Number of starts of both.
        peak_memory_bytes: Of the main process, without workers; ``None`` without a start.
        peak_gpu_bytes: ``None`` without a GPU.
    """

    train_hours: Amount
    predict_hours: Amount
    gpu_hours: Amount
    attempts: Count
    peak_memory_bytes: Count | None
    peak_gpu_bytes: Count | None


@dataclass(frozen=True)
class TrainerCost:
    """The hours of a trainer, summed over its runs that began, and all their starts.

    Attributes:
        trainer: Class name.
        runs: Number of runs that began.
        train_hours: See :class:`Cost`.
        predict_hours: See :class:`Cost`.
        gpu_hours: See :class:`Cost`.
    """

    trainer: ClassName
    runs: Count
    train_hours: Amount
    predict_hours: Amount
    gpu_hours: Amount

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> TrainerCost:
        """Return the hours of an object of ``results.json``."""
        return read_record(cls, content, place)


@dataclass(frozen=True, kw_only=True)
class RunRecord(Run):
    """What is known of a run: where it is, what it cost, what it rests on, what went wrong.

    Attributes:
        status: What is known of it.
        error: Why it failed.
        steps: Optimizer steps of the training, once it is finished.
        cost: Over all starts.
        gpu: Of the last start; ``None`` without a GPU, or before the first start.
        host: Of the last start.
        device: Of the last start.
        software: What the training ran with, once per difference between its starts.
        training: nnU-Net's output folder with logs and checkpoints, relative to the benchmark's.
        predictions: Folder with the segmentations of held-out cases, relative to the benchmark's.
    """

    status: Status
    error: str | None
    steps: Count | None
    cost: Cost
    gpu: str | None
    host: str | None
    device: str | None
    software: list[Software]
    training: InnerPath
    predictions: InnerPath

    @property
    def is_done(self) -> bool:
        """Whether its held-out cases are scored."""
        return self.status == Status.DONE

    def to_json(self) -> dict[str, Any]:
        """Return one flat object, with the run's name as ``run``."""
        content = asdict(self)
        cost = content.pop("cost")
        place = {field.name: content.pop(field.name) for field in fields(Run)}
        return {"run": self.name, **place, **cost, **content}

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> RunRecord:
        """Return the run of an object of ``results.json``."""
        return read_record(cls, content, place, cost=read_record(Cost, content, place))


@dataclass(frozen=True)
class HeldOutCases:
    """Which cases the runs are evaluated on.

    Attributes:
        kind: Test or validation cases.
        folders: Fold -> folder with their images and labels, relative to the benchmark's.
        groups: Case -> its group (patient).
    """

    kind: CaseSet
    folders: dict[int, InnerPath]
    groups: dict[FileName, Name]

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {"kind": self.kind, "folder": self.folders, "groups": self.groups}

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> HeldOutCases:
        """Return the cases of an object of ``results.json``."""
        fields_of = read_value(dict[str, object], content, place)
        if "folder" not in fields_of:
            raise RecordError(f"{place} lacks 'folder'.")
        folders = read_value(dict[int, InnerPath], fields_of["folder"], f"{place}.folder")
        return read_record(cls, content, place, folders=folders)


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its bootstrap interval (percentiles of resampled groups).

    Attributes:
        mean: Mean over cases; ``None`` if there is nothing to evaluate.
        low: Lower end of the 95 % interval; ``None`` with fewer than two groups.
        high: Upper end; ``None`` likewise.
        cases: Number of cases.
        groups: Number of groups (patients).
    """

    mean: float | None
    low: float | None
    high: float | None
    cases: Count
    groups: Count


@dataclass(frozen=True)
class Comparison(Interval):
    """A mean difference to the baseline on the same cases.

    Attributes:
        p: Two-sided Wilcoxon signed-rank test over groups; ``None`` with fewer than two groups.
    """

    p: Share | None


@dataclass(frozen=True)
class Difference(Comparison):
    """A difference to the baseline on the same folds, seeds and cases.

    Attributes:
        pairs: Number of pairs of runs: one of the trainer and one of the baseline.
    """

    pairs: Count


@dataclass(frozen=True, kw_only=True)
class Summary(Interval):
    """One metric of one label for a trainer with one configuration and budget, over all its runs.

    Attributes:
        configuration: For example ``2d``.
        budget: Number of labeled groups.
        trainer: Class name.
        label: Name of the label or region, or ``mean``.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`.
        unit: Of the metric.
        runs: Number of runs.
        run_means: The mean over cases of each run.
        failures: Number of scores, of all runs, with a status that :attr:`ScoreStatus.is_failure`.
        absent: Number of scores, of all runs, with nothing to evaluate.
        difference: To the baseline, if it has runs of the same folds and seeds.
    """

    configuration: FileName
    budget: Count
    trainer: ClassName
    label: Name
    metric: Name
    unit: Name
    runs: Count
    run_means: list[float | None]
    failures: Count
    absent: Count
    difference: Difference | None

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> Summary:
        """Return the summary of an object of ``results.json``."""
        return read_record(cls, content, place)
