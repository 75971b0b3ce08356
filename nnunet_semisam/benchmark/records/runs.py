"""A run of a benchmark: one training and its evaluation, where it is, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from nnunet_semisam.io.typed_records import Amount, ClassName, Count, FileName, InnerPath, read_record
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs.attempts import Software


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
