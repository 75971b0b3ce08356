"""The plans that the trainings of a benchmark used, by the copies that nnU-Net leaves beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
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
        path = Path(benchmark.folder / run.training).parent / "plans.json"
        if run.configuration == configuration and path.is_file():
            try:
                return _parse(read_object(path, "The page can be made without it."), configuration)
            except (UserError, KeyError, TypeError, ValueError):
                continue
    return None


def _parse(plans: Mapping[str, Any], configuration: str) -> UsedPlans:
    content = plans["configurations"][configuration]
    network = content.get("architecture", {}).get("arch_kwargs", {})
    return UsedPlans(
        planner=plans.get("experiment_planner_used", DEFAULT_PLANNER),
        data_identifier=content.get("data_identifier"),
        patch_size=tuple(content.get("patch_size", ())),
        batch_size=content.get("batch_size"),
        features=tuple(int(number) for number in network.get("features_per_stage", ())),
        planned_on_labeled=PLANNED_ON in content,
    )
