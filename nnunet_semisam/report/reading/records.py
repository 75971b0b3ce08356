"""What a benchmark wrote, as plain records: the grid, the runs, the summary and the scores of single cases.

``results_files.py`` reads them. Numbers that do not exist are ``None``. Dice is in [0, 1], distances and volumes are in
the unit that stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

MEAN = "mean"  # in place of a label: over the labels of the case
DEFAULT_DEVICE = "auto"  # found out where a run trains


class RunStatus(Enum):
    """How far a run has come."""

    DONE = "done"
    FAILED = "failed"
    STARTED = "started"
    NEW = "new"


class ScoreStatus(Enum):
    """What became of a label in a case."""

    OK = "ok"
    ABSENT = "absent"  # neither in the ground truth nor predicted: nothing to judge
    MISSED = "missed"
    INVENTED = "invented"
    NO_PREDICTION = "no prediction"

    @property
    def is_failure(self) -> bool:
        """Whether a label was missed or invented, or the case has no usable prediction."""
        return self in (ScoreStatus.MISSED, ScoreStatus.INVENTED, ScoreStatus.NO_PREDICTION)


class Equal(Enum):
    """What the trainers of a benchmark have in common."""

    STEPS = "steps"
    TIME = "time"


class JudgedOn(Enum):
    """Which cases judge the runs."""

    TEST = "test"
    VAL = "val"


@dataclass(frozen=True)
class Fold:
    """A fold of the splits file.

    Attributes:
        budget: Number of labeled groups (patients).
        sha256: Digest of which cases it trains on, validates on and hides the labels of.
    """

    budget: int
    sha256: str


@dataclass(frozen=True)
class Study:
    """The grid of a benchmark, and what all its runs share.

    Attributes:
        dataset: Name of the dataset.
        plans: Plans identifier.
        plans_sha256: Digest of the plans file.
        trainers: Class names, in the order that the user gave them.
        configurations: Names of nnU-Net's configurations.
        folds: Number of the fold -> the fold.
        seeds: Seeds of the trainings.
        settings: Settings that every run is given, as they stand in a settings file.
        equal: What the trainers have in common.
        judged_on: Which cases judge the runs.
        test_set: Name of one of several test sets, or ``None``.
        group: The pattern that finds the patient in a case's name; ``None`` cuts off frame numbers.
        device: nnU-Net's ``-device``, or ``auto``.
    """

    dataset: str
    plans: str
    plans_sha256: str
    trainers: tuple[str, ...]
    configurations: tuple[str, ...]
    folds: Mapping[int, Fold]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    equal: Equal
    judged_on: JudgedOn
    test_set: str | None
    group: str | None
    device: str


@dataclass(frozen=True)
class HeldOutCases:
    """The cases that judge the runs.

    Attributes:
        folders: Number of the fold -> folder with images and labels, relative to the benchmark.
        groups: Case -> its group (patient).
    """

    folders: Mapping[int, str]
    groups: Mapping[str, str]


@dataclass(frozen=True)
class Software:
    """What a training ran with.

    Attributes:
        versions: Package -> version.
        variables: Variable of the environment -> value.
        sam_fingerprints: Digests of the SAM weights.
    """

    versions: Mapping[str, str]
    variables: Mapping[str, str]
    sam_fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """One run: where it is, what it cost, what it rests on, what went wrong.

    Attributes:
        name: Name of the run, and of its folder in ``runs``.
        trainer: Class name.
        configuration: For example ``2d``.
        budget: Number of labeled groups (patients).
        fold: Number of the fold.
        seed: Seed of the training.
        status: How far it has come.
        error: What went wrong, or ``None``.
        steps: Optimiser steps of the training; ``None`` before it is finished.
        train_hours: Of all starts, killed ones included.
        predict_hours: Likewise.
        gpu_hours: Those of both that had a GPU.
        attempts: Starts of both.
        peak_memory_bytes: Of the main process, without workers.
        peak_gpu_bytes: ``None`` without a GPU.
        gpu: Name of the GPU, or ``None``.
        host: Name of the machine; ``None`` before the first start.
        device: nnU-Net's ``-device``; ``None`` before the first start.
        software: What the training ran with; several if that changed between its starts.
        training: nnU-Net's output folder with logs and checkpoints, relative to the benchmark.
        predictions: Folder of the segmentations, relative to the benchmark.
    """

    name: str
    trainer: str
    configuration: str
    budget: int
    fold: int
    seed: int
    status: RunStatus
    error: str | None
    steps: int | None
    train_hours: float
    predict_hours: float
    gpu_hours: float
    attempts: int
    peak_memory_bytes: int | None
    peak_gpu_bytes: int | None
    gpu: str | None
    host: str | None
    device: str | None
    software: tuple[Software, ...]
    training: str
    predictions: str

    @property
    def is_done(self) -> bool:
        """Whether its held-out cases are scored."""
        return self.status is RunStatus.DONE


@dataclass(frozen=True)
class TrainerCost:
    """Hours of one trainer: sums over all its runs and starts.

    Attributes:
        trainer: Class name.
        runs: Number of runs that began.
        train_hours: Hours of training.
        predict_hours: Hours of prediction.
        gpu_hours: Those of both that had a GPU.
    """

    trainer: str
    runs: int
    train_hours: float
    predict_hours: float
    gpu_hours: float


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its 95 % bootstrap interval over groups (patients).

    Attributes:
        mean: Mean over cases; ``None`` if there is nothing to judge.
        low: Lower end; ``None`` with fewer than two groups.
        high: Upper end; ``None`` likewise.
        cases: Number of cases.
        groups: Number of groups.
    """

    mean: float | None
    low: float | None
    high: float | None
    cases: int
    groups: int


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference to the baseline on the same folds, seeds and cases.

    Attributes:
        pairs: Number of pairs of runs that it rests on.
        p: Two-sided Wilcoxon signed-rank test over groups; ``None`` with fewer than two groups.
    """

    pairs: int
    p: float | None


@dataclass(frozen=True)
class Summary(Interval):
    """One number of the grid: a metric of a label, for a trainer with a configuration and budget.

    Attributes:
        configuration: For example ``2d``.
        budget: Number of labeled groups (patients).
        trainer: Class name.
        label: Name of the label or region, or ``mean``.
        metric: For example ``dice``.
        unit: Unit of the metric.
        runs: Number of runs.
        run_means: Mean over cases of each run.
        failures: Scores of all runs with a failure.
        absent: Scores of all runs with nothing to judge.
        difference: Difference to the baseline; ``None`` if there is nothing to compare.
    """

    configuration: str
    budget: int
    trainer: str
    label: str
    metric: str
    unit: str
    runs: int
    run_means: tuple[float | None, ...]
    failures: int
    absent: int
    difference: Difference | None


@dataclass(frozen=True)
class Score:
    """One number of one label in one held-out case: a row of ``results.csv``.

    Attributes:
        run: Name of the run.
        case: Identifier of the case.
        group: Its group (patient).
        label: Name of the label or region, or ``mean``.
        metric: For example ``dice``.
        unit: Unit of the metric.
        value: What was measured; ``None`` if it is undefined.
        scored: What means and tests use; ``None`` only if there is nothing to judge.
        status: What became of the label; of ``mean``, the worst of its labels.
    """

    run: str
    case: str
    group: str
    label: str
    metric: str
    unit: str
    value: float | None
    scored: float | None
    status: ScoreStatus
