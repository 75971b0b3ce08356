"""Hours and disk space of trainings before they start: by logs of earlier ones on this machine, and by the plans."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nnunet_semisam.checks.places import CHECKPOINT_COPIES, FILES_AT_ONCE, FILES_LEFT, GIB
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.regular_files import MIB, read_bytes
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.small_plans import inherited, parameters

EPOCH_TIME = re.compile(r": Epoch time: ([0-9.]+) s\s*$", re.MULTILINE)
ITERATIONS = 250  # of an nnU-Net epoch, where a training did not write its settings down
RECENT = 20  # epochs of a log
MOST_LOGS = 200
BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Training:
    """A training that is to be carried out.

    Attributes:
        trainer: Class name.
        configuration: Name of the configuration.
        steps: Optimiser steps.
    """

    trainer: str
    configuration: str
    steps: int


@dataclass(frozen=True)
class StepTime:
    """A measured step time: validation and rounds of pseudo-labels included.

    Attributes:
        seconds: Of a step.
        log: The log that says so.
    """

    seconds: float
    log: Path


def step_time(results: Iterable[Path], dataset: str, trainer: str, plans: str, configuration: str) -> StepTime | None:
    """Return the step time by the newest log of a trainer; ``None`` if there is no log that says so.

    Args:
        results: Folders like ``$nnUNet_results``.
        dataset: Name of the dataset.
        trainer: Class name.
        plans: Plans identifier.
        configuration: Name of the configuration.
    """
    pattern = f"{dataset}/{trainer}__{plans}__{configuration}/fold_*/training_log_*.txt"
    logs = [log for folder in results for log in folder.glob(pattern)]
    for log in sorted(logs, key=lambda log: log.name, reverse=True)[:MOST_LOGS]:  # names hold the time
        try:
            text = read_bytes(log, "", 64 * MIB).decode("utf-8", errors="replace")
        except UserError:
            continue
        seconds = [float(found) for found in EPOCH_TIME.findall(text) if found.count(".") <= 1]
        if seconds:
            return StepTime(median(seconds[-RECENT:]) / _iterations(log.parent), log)
    return None


def places_of_logs(*more: Path) -> list[Path]:
    """Return ``$nnUNet_results``, if it is set, and further folders like it."""
    value = os.environ.get("nnUNet_results")
    return [*([Path(value)] if value else []), *more]


def _iterations(folder: Path) -> int:
    """Return the training steps of an epoch."""
    settings = folder / "semisam_config.yaml"
    if not settings.is_file():
        return ITERATIONS
    try:
        steps = read_mapping(settings, "", str(settings)).get("num_iterations_per_epoch")
    except UserError:
        return ITERATIONS
    return steps if isinstance(steps, int) and steps > 0 else ITERATIONS


def describe(
    trainings: Sequence[Training], plans: dict[str, Any], dataset: str, results: Sequence[Path], target: Path
) -> list[str]:
    """Return lines on what trainings will take.

    Args:
        trainings: Those that are not finished.
        plans: nnU-Net's plans.
        dataset: Name of the dataset.
        results: Folders like ``$nnUNet_results``, in which logs are looked for.
        target: Folder that is written to; it need not exist.
    """
    if not trainings:
        return ["Nothing is left to train."]
    lines = [f"Estimate of {len(trainings)} training(s):", f"  disk: {_disk(trainings, plans, target)}"]
    hours, unknown = 0.0, 0
    kinds = dict.fromkeys((one.trainer, one.configuration) for one in trainings)
    for trainer, configuration in kinds:
        mine = [one for one in trainings if (one.trainer, one.configuration) == (trainer, configuration)]
        name = f"  {trainer}, {configuration}, {len(mine)} x"
        found = step_time(results, dataset, trainer, plans["plans_name"], configuration)
        if found is None:
            unknown += len(mine)
            lines.append(f"{name}: not known, no training of it on these data has left a log here")
            continue
        own = sum(one.steps for one in mine) * found.seconds / 3600
        hours += own
        lines.append(f"{name}: {own:.1f} hours ({found.seconds:.3f} s a step, {found.log})")
    if unknown < len(trainings):
        least = "at least " if unknown else "about "
        lines.append(f"  hours: {least}{hours:.1f} one after the other, on the device of these logs; prediction extra")
    return lines


def _disk(trainings: Sequence[Training], plans: dict[str, Any], target: Path) -> str:
    configurations = plans["configurations"]
    try:
        weights = [BYTES_PER_WEIGHT * parameters(inherited(configurations, one.configuration)) for one in trainings]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return "not known, the plans do not describe a plain U-Net"
    left = sum(weights) * CHECKPOINT_COPIES * FILES_LEFT
    while_training = max(weights) * CHECKPOINT_COPIES * (FILES_AT_ONCE - FILES_LEFT)
    existing = next(parent for parent in (target, *target.parents) if parent.exists())
    free = shutil.disk_usage(existing).free / GIB
    return f"about {(left + while_training) / GIB:.2f} GiB of checkpoints; {existing} has {free:.1f} GiB free"
