"""Equal wall-clock: a trainer whose steps take longer trains for fewer epochs, so that its schedules still fit.

A step of every trainer is timed first, with every unlabeled term switched on from the start, as it is in most of a
training. Rounds of the SAM stage are not in it; by default the first predicts as much as a
twentieth of a training computes, and all others together the same. The hours that each run really took are in the
results: compare them before you believe that time was equal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.plan import BASELINE, Run, Study
from nnunet_semisam.benchmark.tasks import BUSY, DONE, FAILED, STARTED, device_here, environment, read_json_object
from nnunet_semisam.errors import UserError

EVERYTHING_ON = {
    "num_epochs": 2,
    "num_val_iterations_per_epoch": 1,
    "consistency_start": 0.0,
    "consistency_rampup": 0.01,
    "maturity_dice": 0.0,
    "maturity_start": "any",
    "area_prior_factor": 1.0e9,
    "sam_start": 0.0,
    "sam_refresh_epochs": 2,
    "sam_cases_per_refresh": 1,
    "sam_preview_cases": 0,
    "seed": 0,
}
MOST_STEPS = 25


@dataclass(frozen=True)
class MeasureStep:
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

    def __call__(self, variables: Mapping[str, str] | None = None) -> str:
        """Measure, unless that was done before; return the status."""
        with processes.lock(self.folder) as mine:
            if not mine:
                return BUSY
            if self.seconds() is not None:
                return DONE
            settings = self.settings()
            (self.folder / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            fold = str(min(self.study.folds))
            words = [sys.executable, "-m", "nnunet_semisam.benchmark.step_time", str(self.report), self.study.dataset]
            device = device_here(self.study.device, variables or {})
            words += [self.configuration, fold, self.trainer, self.study.plans, device]
            log = self.folder / "timing.log"
            code = processes.run_logged(words, environment(self.folder, variables or {}), log)
            if self.seconds() is not None:
                return DONE
            return STARTED if code in processes.STOPPED else FAILED

    @property
    def report(self) -> Path:
        """File with what was measured."""
        return self.folder / "step_time.json"

    def seconds(self) -> float | None:
        """Return the seconds of a step; ``None`` if they were not measured, or the file of it is torn."""
        return (read_json_object(self.report) or {}).get("seconds_per_step")

    def settings(self) -> dict[str, Any]:
        """Return settings of two short epochs in which every term speaks."""
        steps = min(MOST_STEPS, self.study.settings["num_iterations_per_epoch"])
        return {**self.study.settings, **EVERYTHING_ON, "num_iterations_per_epoch": steps}


def measurements(study: Study) -> list[MeasureStep]:
    """Return what has still to be measured before the runs."""
    tasks = [MeasureStep(study, trainer, name) for trainer in study.trainers for name in study.configurations]
    return [task for task in tasks if task.seconds() is None]


def seconds_per_step(study: Study, trainer: str, configuration: str) -> float:
    """Return a measured step time.

    Raises:
        UserError: If it was not measured, or that failed.
    """
    task = MeasureStep(study, trainer, configuration)
    if (seconds := task.seconds()) is None:
        log = task.folder / "timing.log"
        raise UserError(
            f"The step time of {trainer} with {configuration} could not be measured, so it cannot be given equal time. "
            f"Start again to measure once more. The end of {log}:\n{processes.end_of(log)}"
        )
    return seconds


def epochs_of(study: Study, run: Run) -> int:
    """Return how many epochs take a run as long as the baseline takes for its own."""
    epochs = study.settings["num_epochs"]
    if run.trainer == BASELINE:
        return epochs
    theirs = seconds_per_step(study, BASELINE, run.configuration)
    return max(1, round(epochs * theirs / seconds_per_step(study, run.trainer, run.configuration)))
