"""The plans that the trainings of a benchmark used, by the copies that nnU-Net leaves beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.typed_records import ClassName, Count, FileName, read_entry, read_value
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.splits.replan import PLANNED_ON

DEFAULT_PLANNER = "ExperimentPlanner"


@dataclass(frozen=True)
class UsedPlans:
    """The plans of one configuration, as far as the page needs them.

    Attributes:
        planner: Class name of nnU-Net's planner.
        data_identifier: Folder of the preprocessed data; ``None`` if the plans do not name it.
        patch_size: Voxels along each axis.
        batch_size: Number of patches in a batch; ``None`` if the plans do not name it.
        features: Features of every stage; empty if the plans do not name them.
        planned_on_labeled: Whether the plans rest on the labeled cases alone.
    """

    planner: str
    data_identifier: str | None
    patch_size: tuple[int, ...]
    batch_size: int | None
    features: tuple[int, ...]
    planned_on_labeled: bool


def used_plans(benchmark: Benchmark, configuration: str) -> UsedPlans | None:
    """Return the plans that a training of the configuration used, or ``None`` if none has left them."""
    for run in benchmark.runs:
        if run.configuration != configuration:
            continue
        place = f"{PurePosixPath(run.training).parent}/plans.json"
        try:
            path = benchmark.file(place)
            if path is not None:
                return _parse(read_object(path, "The page can be made without it."), configuration)
        except UserError as error:
            benchmark.damage.note("plans", place, error)
    return None


@dataclass(frozen=True)
class _ArchitectureArguments:
    features_per_stage: list[Count] = field(default_factory=list)


@dataclass(frozen=True)
class _Architecture:
    arch_kwargs: _ArchitectureArguments = field(default_factory=_ArchitectureArguments)


@dataclass(frozen=True)
class _Configuration:
    """What nnU-Net calls them."""

    architecture: _Architecture = field(default_factory=_Architecture)
    data_identifier: FileName | None = None
    patch_size: list[Count] = field(default_factory=list)
    batch_size: Count | None = None


def _parse(plans: Mapping[str, Any], configuration: str) -> UsedPlans:
    """Return what the page needs of a file of plans.

    Raises:
        RecordError: If it is none.
    """
    configurations = read_entry(dict[str, Any], plans, "configurations")
    content = read_entry(_Configuration, configurations, configuration)
    return UsedPlans(
        planner=read_value(ClassName, plans.get("experiment_planner_used", DEFAULT_PLANNER), "experiment_planner_used"),
        data_identifier=content.data_identifier,
        patch_size=tuple(content.patch_size),
        batch_size=content.batch_size,
        features=tuple(content.architecture.arch_kwargs.features_per_stage),
        planned_on_labeled=PLANNED_ON in configurations[configuration],
    )
