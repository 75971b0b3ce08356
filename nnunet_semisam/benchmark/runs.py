"""One run: nnU-Net's own training, its prediction of held-out cases, and their scores.

Everything is in the run's folder. What is finished there is never repeated:

========================  ==========================================================================
``settings.yaml``         settings of the training
``results/``              ``nnUNet_results`` of this run alone
``trained.json``          training and nnU-Net's own validation are finished
``predictions/``          segmentations of the held-out cases; renamed into place when all are there
``scores.json``           scores of the held-out cases: the run is done
``attempts/*.json``       time and memory of every start (see ``measured.py``)
``train.log`` ...         output of the commands
``error.json``            what went wrong at the last start
========================  ==========================================================================
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.equal_time import epochs_of
from nnunet_semisam.benchmark.held_out import gather
from nnunet_semisam.benchmark.plan import Run, Study
from nnunet_semisam.benchmark.tasks import (
    BUSY,
    DONE,
    ERROR_FILE,
    FAILED,
    NEW,
    STARTED,
    device_here,
    environment,
    record_error,
)
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.splits.folds import write_json

CHECKPOINT = "checkpoint_final.pth"  # never the best one: that is chosen on validation cases


@dataclass(frozen=True)
class Perform:
    """A run to be carried out; plain data, so that it travels to another machine.

    Attributes:
        study: The benchmark.
        run: The run.
    """

    study: Study
    run: Run

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.study.folder_of(self.run)

    def __call__(self, variables: Mapping[str, str] | None = None) -> str:
        """Carry the run out from where it stopped; return its status.

        Args:
            variables: Environment variables on top of this process's, such as ``CUDA_VISIBLE_DEVICES``.
        """
        with processes.lock(self.folder) as mine:
            if not mine:
                return BUSY
            return _perform(self.study, self.run, dict(variables or {}))


def status(study: Study, run: Run) -> str:
    """Return what is known of a run from its folder."""
    folder = study.folder_of(run)
    if (folder / "scores.json").is_file():
        return DONE
    if (folder / ERROR_FILE).is_file():
        return FAILED
    return STARTED if (folder / "settings.yaml").is_file() else NEW


def _perform(study: Study, run: Run, variables: Mapping[str, str]) -> str:
    folder = study.folder_of(run)
    try:
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        (folder / ERROR_FILE).unlink(missing_ok=True)
        if not (folder / "trained.json").is_file():
            _train(study, run, variables)
        if not (folder / "predictions").is_dir():
            _predict(study, run, variables)
        if not (folder / "scores.json").is_file():
            _score(study, run)
    except _CommandFailedError as failure:
        if processes.stopping() or failure.status in processes.STOPPED:
            return STARTED
        return _failed(folder, failure.stage, str(failure), failure.status)
    except UserError as error:
        return _failed(folder, "prepare", str(error))
    except Exception as error:  # whatever it is, of files, readers or metrics: the other runs must go on
        if processes.stopping():  # not this run's fault
            raise
        end = "".join(traceback.format_exception(error)).splitlines()[-processes.SHOWN_LINES :]
        return _failed(folder, "prepare or score", "\n".join(end))
    return status(study, run)


def _failed(folder: Path, stage: str, log: str, code: int | None = None) -> str:
    record_error(folder, stage, log, code)
    return FAILED


class _CommandFailedError(Exception):
    def __init__(self, stage: str, status: int, log: str) -> None:
        super().__init__(log)
        self.stage, self.status = stage, status


def settings_of(study: Study, run: Run) -> dict[str, Any]:
    """Return the settings of a run: those of the benchmark, its seed, and its length if trainers get equal time."""
    settings = {**study.settings, "seed": run.seed}
    if study.equal == "time":
        settings["num_epochs"] = epochs_of(study, run)
    return settings


def _train(study: Study, run: Run, variables: Mapping[str, str]) -> None:
    folder = study.folder_of(run)
    settings = folder / "settings.yaml"
    if not settings.is_file():
        temporary = folder / ".settings.yaml.tmp"
        temporary.write_text(yaml.safe_dump(settings_of(study, run), sort_keys=False), encoding="utf-8")
        os.replace(temporary, settings)
    arguments = [study.dataset, run.configuration, str(run.fold), *_model(study, run)]
    arguments += ["-device", device_here(study.device, variables)]
    _command(study, run, "train", [*arguments, *resume_option(training_folder(study, run))], variables)
    write_json(folder / "trained.json", {"run": asdict(run), "settings": yaml.safe_load(settings.read_text())})


def resume_option(training: Path) -> list[str]:
    """Return what tells ``nnUNetv2_train`` to go on where a killed training stopped."""
    if (training / CHECKPOINT).is_file():
        return ["--val"]
    checkpoints = ("checkpoint_latest.pth", "checkpoint_best.pth")
    return ["--c"] if any((training / name).is_file() for name in checkpoints) else []


def training_folder(study: Study, run: Run) -> Path:
    """Return nnU-Net's output folder of the run's fold."""
    model = f"{run.trainer}__{study.plans}__{run.configuration}"
    return study.folder_of(run) / "results" / study.dataset / model / f"fold_{run.fold}"


def _predict(study: Study, run: Run, variables: Mapping[str, str]) -> None:
    folder = study.folder_of(run)
    cases = gather(study, open_dataset(study.dataset, study.plans), run.fold)
    unfinished = folder / "predictions.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["-i", str(cases.images), "-o", str(unfinished), "-d", study.dataset, "-c", run.configuration]
    options += ["-f", str(run.fold), *_model(study, run), "-chk", CHECKPOINT]
    options += ["-device", device_here(study.device, variables)]
    _command(study, run, "predict", options, variables)
    os.replace(unfinished, folder / "predictions")


def _score(study: Study, run: Run) -> None:
    from nnunet_semisam.benchmark.metrics import score_case

    folder = study.folder_of(run)
    dataset = open_dataset(study.dataset, study.plans)
    ending = dataset.dataset_json["file_ending"]
    cases = gather(study, dataset, run.fold)
    scores = {
        case: [
            asdict(score)
            for score in score_case(
                folder / "predictions" / f"{case}{ending}", cases.label(case, ending), dataset.dataset_json
            )
        ]
        for case in cases.cases
    }
    write_json(folder / "scores.json", scores)


def _model(study: Study, run: Run) -> list[str]:
    return ["-tr", run.trainer, "-p", study.plans]


def _command(study: Study, run: Run, stage: str, arguments: list[str], variables: Mapping[str, str]) -> None:
    folder = study.folder_of(run)
    count = len(list((folder / "attempts").glob(f"{stage}_*.json")))
    report = folder / "attempts" / f"{stage}_{count:03d}.json"
    words = [sys.executable, "-m", "nnunet_semisam.benchmark.measured", str(report), stage, *arguments]
    log = folder / f"{stage}.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ nnUNetv2_{stage} {' '.join(arguments)}\n")
    code = processes.run_logged(words, environment(folder, variables), log)
    if code != 0:
        why = " (killed, most likely for lack of memory)" if code == -signal.SIGKILL else ""
        raise _CommandFailedError(
            stage, code, f"{processes.end_of(log)}\nnnUNetv2_{stage} ended with status {code}{why}"
        )
