"""The records that travel between the modules of a benchmark, and their form in its json files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from nnunet_semisam.errors import name_some
from nnunet_semisam.jobs.base import Status


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


@dataclass(frozen=True)
class Score:
    """One number of one label in one case.

    Attributes:
        label: Name of the label or region.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`. ``dice`` is in [0, 1]; ``hd95`` is the larger
            of the two directed 95th percentiles; ``assd`` is the mean over both surfaces; ``volume_error`` is
            absolute, ``volume_bias`` is predicted minus true.
        value: What was measured; NaN if it is undefined.
        scored: What means and tests use: ``value``, or the worst case where it is undefined. NaN only if the label is
            neither in the ground truth nor predicted, so that there is nothing to evaluate.
        status: What the segmentation did.
        unit: That of ``UNITS``; of 2D images ``mm`` or ``px``, and ``mm2`` or ``px2`` for what is an area there.
    """

    label: str
    metric: str
    value: float
    scored: float
    status: ScoreStatus
    unit: str

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Score:
        """Return the score of an entry of ``scores.json``."""
        values = {field.name: content[field.name] for field in fields(cls)}
        return cls(**{**values, "status": ScoreStatus(content["status"])})


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

    trainer: str
    configuration: str
    fold: int
    budget: int
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.trainer}__{self.configuration}__fold_{self.fold}__seed_{self.seed}"


@dataclass(frozen=True)
class StudyFold:
    """A fold that a benchmark trains on.

    Attributes:
        budget: Number of labeled groups (patients).
        sha256: Digest of which cases it trains on, validates on and hides the labels of.
    """

    budget: int
    sha256: str


@dataclass(frozen=True)
class UnlabeledImages:
    """The images of ``imagesUl`` when a benchmark was begun.

    Attributes:
        cases: How many there were.
        sha256: Digest of their names.
    """

    cases: int
    sha256: str


@dataclass(frozen=True)
class HeldOutSet:
    """A set of cases that a benchmark is evaluated on, as it was when the benchmark was begun.

    Attributes:
        digests: Case -> digest of its images and its label.
    """

    digests: dict[str, str]

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
class Software:
    """What a number rests on besides the code of the trainer.

    Attributes:
        versions: Package -> version.
        variables: Environment variables that change how nnU-Net works.
        sam_fingerprints: Digests of the SAM weights that made pseudo-labels; on record from the first round on.
    """

    versions: dict[str, str]
    variables: dict[str, str]
    sam_fingerprints: list[str]

    def continues(self, before: Software) -> bool:
        """Return whether this is the software of ``before``, of which only more is known by now."""
        same = self.versions == before.versions and self.variables == before.variables
        return same and set(before.sam_fingerprints) <= set(self.sam_fingerprints)


@dataclass(frozen=True)
class Attempt:
    """One start of a command of a run: a file in ``attempts/``.

    Attributes:
        stage: ``train`` or ``predict``.
        seconds: How long it ran, by the clock.
        peak_memory_bytes: Of the main process, without workers.
        peak_gpu_bytes: Of its GPU; ``None`` without one.
        gpu: Name of the GPU, if it used one.
        host: Name of the machine.
        device: nnU-Net's ``-device``.
        software: What it ran with.
    """

    stage: str
    seconds: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None
    gpu: str | None
    host: str
    device: str | None
    software: Software

    def to_json(self) -> dict[str, Any]:
        """Return all fields, those of the software among them."""
        content = asdict(self)
        software = content.pop("software")
        return {**content, **software}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Attempt:
        """Return the attempt of a file.

        Raises:
            KeyError: If a field is missing.
        """
        software = Software(**{field.name: content[field.name] for field in fields(Software)})
        own = {field.name: content[field.name] for field in fields(cls) if field.name != "software"}
        return cls(**own, software=software)


@dataclass(frozen=True)
class Cost:
    """What a run cost, over all its starts; those that were killed count.

    Attributes:
        train_hours: Of training and nnU-Net's own validation.
        predict_hours: Of the prediction of held-out cases.
        gpu_hours: Those of both that had a GPU.
        attempts: Number of starts of both.
        peak_memory_bytes: Of the main process, without workers; ``None`` without a start.
        peak_gpu_bytes: ``None`` without a GPU.
    """

    train_hours: float
    predict_hours: float
    gpu_hours: float
    attempts: int
    peak_memory_bytes: int | None
    peak_gpu_bytes: int | None


@dataclass(frozen=True)
class TrainerCost:
    """The hours of a trainer, summed over its runs that began."""

    trainer: str
    runs: int
    train_hours: float
    predict_hours: float
    gpu_hours: float


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run: where it is, what it cost, what it rests on, what went wrong.

    Attributes:
        run: The run.
        status: What is known of it.
        error: Why it failed.
        steps: Optimizer steps of the training, once it is finished.
        cost: Over all starts.
        gpu: Of the last start.
        host: Of the last start.
        device: Of the last start.
        software: What the training ran with, once per difference between its starts.
        training: nnU-Net's output folder with logs and checkpoints, relative to the benchmark's.
        predictions: Folder with the segmentations of held-out cases, relative to the benchmark's.
    """

    run: Run
    status: Status
    error: str | None
    steps: int | None
    cost: Cost
    gpu: str | None
    host: str | None
    device: str | None
    software: list[Software]
    training: str
    predictions: str

    def to_json(self) -> dict[str, Any]:
        """Return one flat object, with the run's name as ``run``."""
        content = asdict(self)
        run, cost = content.pop("run"), content.pop("cost")
        return {"run": self.run.name, **run, **cost, **content}


@dataclass(frozen=True)
class HeldOutCases:
    """Which cases the runs are evaluated on.

    Attributes:
        kind: ``test`` or ``val``.
        folder: Fold -> folder with their images and labels, relative to the benchmark's.
        groups: Case -> its group (patient).
    """

    kind: str
    folder: dict[int, str]
    groups: dict[str, str]


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its bootstrap interval (percentiles of resampled groups).

    Attributes:
        mean: Mean over cases.
        low: Lower end of the 95 % interval; NaN with fewer than two groups.
        high: Upper end.
        cases: Number of cases.
        groups: Number of groups (patients).
    """

    mean: float
    low: float
    high: float
    cases: int
    groups: int


@dataclass(frozen=True)
class Comparison(Interval):
    """A mean difference to the baseline on the same cases.

    Attributes:
        p: Two-sided Wilcoxon signed-rank test over groups; NaN with fewer than two groups.
    """

    p: float


@dataclass(frozen=True)
class Difference(Comparison):
    """A difference to the baseline on the same folds, seeds and cases.

    Attributes:
        pairs: Number of pairs of runs: one of the trainer and one of the baseline.
    """

    pairs: int


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
        run_means: The mean of each run.
        failures: Number of scores, of all runs, with a status of ``metrics.FAILURES``.
        absent: Number of scores with nothing to evaluate.
        difference: To the baseline, if it has runs of the same folds and seeds.
    """

    configuration: str
    budget: int
    trainer: str
    label: str
    metric: str
    unit: str
    runs: int
    run_means: list[float]
    failures: int
    absent: int
    difference: Difference | None


def without_nan(content: Any) -> Any:
    """Return plain values of dataclasses and containers, with null for every NaN: json has no such number."""
    return json.loads(json.dumps(content, default=asdict), parse_constant=lambda name: None)
