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

import contextlib
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.benchmark.equal_time import epochs_of
from nnunet_semisam.benchmark.held_out import gather, held_out_cases
from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import Equal, Run, Score
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import new_folder, remove_temporaries, write_text
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.typed_records import Count, FileName, RecordError, read_entry, read_value
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Task, remove
from nnunet_semisam.jobs.nnunet_command import command_environment, device_here

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")  # as nnU-Net takes them
CHECKPOINT = CHECKPOINTS[0]  # never the best one: that is chosen on validation cases
REMEDY = "It must hold json, as the benchmark wrote it. Delete it and start again: what it held is made again."


@dataclass(frozen=True)
class PerformRun(Task):
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

    @property
    def settings_file(self) -> Path:
        """File with the settings of the training."""
        return self.folder / "settings.yaml"

    @property
    def trained_file(self) -> Path:
        """File that is there as soon as the training is finished."""
        return self.folder / "trained.json"

    @property
    def predictions(self) -> Path:
        """Folder with the segmentations of the held-out cases, as soon as there are all."""
        return self.folder / "predictions"

    @property
    def scores_file(self) -> Path:
        """File with the scores of the held-out cases: the run is done."""
        return self.folder / "scores.json"

    @property
    def training_folder(self) -> Path:
        """nnU-Net's output folder of the run's fold."""
        model = f"{self.run.trainer}__{self.study.plans}__{self.run.configuration}"
        return self.folder / "results" / self.study.dataset / model / f"fold_{self.run.fold}"

    def finished(self) -> bool:
        """Return whether the training is finished and the held-out cases have scores; a torn file is none."""
        if not self.scores_file.is_file() or not self._is_trained():
            return False
        try:
            self.scores()
        except UserError:
            return False
        return True

    def started(self) -> bool:
        """Return whether the run has settings."""
        return self.settings_file.is_file()

    def work(self, variables: Mapping[str, str]) -> None:
        """Train, predict and score: what of it is not done yet."""
        if not self._is_trained():
            self._train(variables)
        if not self._is_predicted():
            self._predict(variables)
        self._score()

    def _is_predicted(self) -> bool:
        """Return whether there is a segmentation of every held-out case: one that was lost is no failure of the run."""
        dataset = open_dataset(self.study.dataset, self.study.plans)
        ending = dataset.dataset_json["file_ending"]
        cases = held_out_cases(self.study, dataset, self.run.fold)
        return all((self.predictions / f"{case}{ending}").is_file() for case in cases)

    def _is_trained(self) -> bool:
        """Return whether the training is finished; if the file that says so is torn, it is asked again."""
        try:
            return self.steps() is not None
        except UserError:
            return False

    def steps(self) -> int | None:
        """Return the optimizer steps of the training; ``None`` while it is not finished.

        Raises:
            UserError: If the file that says so is damaged.
        """
        if not self.trained_file.is_file():
            return None
        try:
            settings = read_entry(dict[str, Any], read_object(self.trained_file, REMEDY), "settings")
            return read_entry(Count, settings, "num_epochs") * read_entry(Count, settings, "num_iterations_per_epoch")
        except RecordError as error:
            raise UserError(f"{self.trained_file} cannot be read: {error} {REMEDY}") from error

    def scores(self) -> dict[str, list[Score]]:
        """Return case -> its scores, of a run that is done.

        Raises:
            UserError: If the file is damaged.
        """
        content = read_object(self.scores_file, REMEDY)
        try:
            return read_value(dict[FileName, list[Score]], content, "it")
        except RecordError as error:
            raise UserError(f"{self.scores_file} cannot be read: {error} {REMEDY}") from error

    def _train(self, variables: Mapping[str, str]) -> None:
        set_aside_damaged(self.training_folder, self.folder / "train.log")
        settings = self._settings()
        arguments = [self.study.dataset, self.run.configuration, str(self.run.fold), *self._model()]
        arguments += ["-device", device_here(self.study.device, variables)]
        arguments += resume_option(self.training_folder)
        self._run_command("train", arguments, variables)
        write_json(self.trained_file, {"run": asdict(self.run), "settings": settings})

    def _settings(self) -> dict[str, Any]:
        """Return the settings of the training: those it began with or, as long as no checkpoint is there, today's."""
        if resume_option(self.training_folder):
            with contextlib.suppress(UserError):
                begun = read_mapping(self.settings_file, REMEDY)
                if begun:
                    return begun
        settings = settings_of(self.study, self.run)
        write_text(self.settings_file, yaml.safe_dump(settings, sort_keys=False))
        return settings

    def _predict(self, variables: Mapping[str, str]) -> None:
        cases = gather(self.study, open_dataset(self.study.dataset, self.study.plans), self.run.fold)
        remove_temporaries(self.folder, self.predictions.name)
        remove(self.predictions)
        with new_folder(self.predictions) as unfinished:
            arguments = ["-i", str(cases.images), "-o", str(unfinished)]
            arguments += ["-d", self.study.dataset, "-c", self.run.configuration, "-f", str(self.run.fold)]
            arguments += [*self._model(), "-chk", CHECKPOINT]
            arguments += ["-device", device_here(self.study.device, variables)]
            self._run_command("predict", arguments, variables)
            flush_files(unfinished)

    def _score(self) -> None:
        from nnunet_semisam.benchmark.metrics import score_case

        dataset = open_dataset(self.study.dataset, self.study.plans)
        ending = dataset.dataset_json["file_ending"]
        cases = gather(self.study, dataset, self.run.fold)
        scores: dict[str, list[dict[str, Any]]] = {}
        for case in cases.cases:
            found = score_case(self.predictions / f"{case}{ending}", cases.label(case, ending), dataset.dataset_json)
            scores[case] = [asdict(score) for score in found]
        write_json(self.scores_file, scores)

    def _model(self) -> list[str]:
        return ["-tr", self.run.trainer, "-p", self.study.plans]

    def _run_command(self, stage: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        run_nnunet(stage, arguments, self.folder, self.settings_file, variables)


def run_nnunet(
    stage: str, arguments: Sequence[str], folder: Path, settings: Path, variables: Mapping[str, str]
) -> None:
    """Run ``nnUNetv2_train`` or ``nnUNetv2_predict`` for a run, with a report of time and memory in ``attempts/``.

    Args:
        stage: ``train`` or ``predict``.
        arguments: Those of the command.
        folder: Of the run; it gets the log, and ``results/`` in it is ``nnUNet_results``.
        settings: File with the settings of the training.
        variables: Environment variables on top of those of this process.

    Raises:
        CommandFailedError: If the command fails.
    """
    attempts = folder / "attempts"
    attempts.mkdir(parents=True, exist_ok=True)
    report = attempts / f"{stage}_{len(list(attempts.glob(f'{stage}_*.json'))):03d}.json"
    command = [sys.executable, "-m", "nnunet_semisam.benchmark.measured", str(report), stage, *arguments]
    log = folder / f"{stage}.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ nnUNetv2_{stage} {' '.join(arguments)}\n")
    environment = command_environment(folder / "results", settings, variables)
    processes.run_checked(command, environment, log, stage, title=f"nnUNetv2_{stage}")


def settings_of(study: Study, run: Run) -> dict[str, Any]:
    """Return the settings of a run: those of the benchmark, its seed, and its length if trainers get equal time."""
    settings = {**study.settings, "seed": run.seed}
    if study.equal == Equal.TIME:
        settings["num_epochs"] = epochs_of(study, run)
    return settings


def resume_option(training: Path) -> list[str]:
    """Return what tells ``nnUNetv2_train`` to go on where a killed training stopped."""
    if (training / CHECKPOINT).is_file():
        return ["--val"]
    return ["--c"] if any((training / name).is_file() for name in CHECKPOINTS[1:]) else []


def set_aside_damaged(training: Path, log: Path) -> None:
    """Rename checkpoints that a power cut has torn: nnU-Net would take them, and fail, at every start.

    The training goes on from the next one that is whole, and repeats what it did since; the log says so. Only the list
    of contents at the end of a file is looked at: it is what a torn file lacks.
    """
    for name in CHECKPOINTS:
        path = training / name
        if not path.is_file() or zipfile.is_zipfile(path):
            continue
        path.replace(path.with_name(f"{name}.damaged"))
        with log.open("a", encoding="utf-8") as file:
            file.write(f"WARNING: {path} is torn and was renamed to {name}.damaged; the training goes on without it.\n")


def flush_files(folder: Path) -> None:
    """Flush all files of a folder to the disk, so that a power cut after its renaming leaves it whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
