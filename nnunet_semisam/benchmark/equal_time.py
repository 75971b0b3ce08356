"""Equal wall-clock: a trainer whose steps take longer trains for fewer epochs, so that its schedules still fit.

A step of every trainer is timed first, with every unlabeled term switched on from the start, as it is in most of a
training. Rounds of the SAM stage are not in it; by default the first predicts as much as a twentieth of a training
computes, and all others together the same. The hours that each run really took are in the results: compare them before
you believe that time was equal.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.benchmark.plan import BASELINE, Study
from nnunet_semisam.benchmark.records import Run
from nnunet_semisam.benchmark.trainers import settings_of_trainer
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.json_files import object_or_none
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Task
from nnunet_semisam.jobs.nnunet_command import command_environment, device_here

SHORT = {"num_epochs": 2, "num_val_iterations_per_epoch": 1, "seed": 0}
FROM_THE_START = {"start": 0.0, "rampup": 0.01}
OPEN_GATE = {"dice": 0.0, "start": "any", "area_factor": 1.0e9}
ONE_CASE_OF_SAM = {"start": 0.0, "refresh_epochs": 2, "cases_per_refresh": 1, "preview_cases": 0}
MOST_STEPS = 25


@dataclass(frozen=True)
class MeasureStep(Task):
    """The step time of one trainer and configuration, to be measured.

    Attributes:
        study: The benchmark.
        trainer: Class name.
        configuration: Name of the configuration.
    """

    study: Study
    trainer: str
    configuration: str

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"step time of {self.trainer}, {self.configuration}"

    @property
    def folder(self) -> Path:
        """Folder of the measurement."""
        return self.study.folder / "timing" / f"{self.trainer}__{self.configuration}"

    @property
    def log(self) -> Path:
        """File with the output of the measurement."""
        return self.folder / "timing.log"

    @property
    def report(self) -> Path:
        """File with what was measured."""
        return self.folder / "step_time.json"

    def finished(self) -> bool:
        """Return whether the step time is known."""
        return self.seconds() is not None

    def work(self, variables: Mapping[str, str]) -> None:
        """Measure."""
        settings = self.folder / "settings.yaml"
        write_text(settings, yaml.safe_dump(self.settings()))
        fold = str(min(self.study.folds))
        command = [sys.executable, "-m", "nnunet_semisam.benchmark.step_time", str(self.report)]
        command += [self.study.dataset, self.configuration, fold, self.trainer, self.study.plans]
        command += [device_here(self.study.device, variables)]
        environment = command_environment(self.folder / "results", settings, variables)
        processes.run_checked(command, environment, self.log, stage="step time")

    def seconds(self) -> float | None:
        """Return the seconds of a step; ``None`` if they were not measured, or the file of it is torn."""
        seconds = (object_or_none(self.report) or {}).get("seconds_per_step")
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        return float(seconds) if is_number and math.isfinite(seconds) and seconds > 0 else None

    def settings(self) -> dict[str, Any]:
        """Return settings of two short epochs in which every term is active."""
        from nnunet_semisam.methods import METHODS

        shared = self.study.settings
        own = settings_of_trainer(self.trainer, shared)
        active: dict[str, dict[str, Any]] = {}
        if METHODS.get(own.run.method).uses_unlabeled:
            active[own.run.method] = FROM_THE_START
            active["gate"] = OPEN_GATE
            if own.run.use_sam:
                active["sam"] = ONE_CASE_OF_SAM
        blocks = {name: {**shared.get(name, {}), **values} for name, values in active.items()}
        steps = min(MOST_STEPS, shared["num_iterations_per_epoch"])
        return {**shared, **SHORT, **blocks, "num_iterations_per_epoch": steps}


def measurements(study: Study) -> list[MeasureStep]:
    """Return what has still to be measured before the runs."""
    tasks = [MeasureStep(study, trainer, name) for trainer in study.trainers for name in study.configurations]
    return [task for task in tasks if not task.finished()]


def seconds_per_step(study: Study, trainer: str, configuration: str) -> float:
    """Return a measured step time.

    Raises:
        UserError: If it was not measured, or that failed.
    """
    task = MeasureStep(study, trainer, configuration)
    seconds = task.seconds()
    if seconds is None:
        raise UserError(
            f"The step time of {trainer} with {configuration} could not be measured, so it cannot be given equal time. "
            f"Start again to measure once more. The end of {task.log}:\n{processes.end_of(task.log)}"
        )
    return seconds


def epochs_of(study: Study, run: Run) -> int:
    """Return how many epochs take a run as long as the baseline takes for its own."""
    epochs = study.settings["num_epochs"]
    if run.trainer == BASELINE:
        return epochs
    of_baseline = seconds_per_step(study, BASELINE, run.configuration)
    own = seconds_per_step(study, run.trainer, run.configuration)
    return max(1, round(epochs * of_baseline / own))
