"""One model: stock ``nnUNetv2_train`` and ``nnUNetv2_predict`` in a folder of their own, which can be killed and go on.

========================  ==========================================================================
``settings.yaml``         settings of the training
``results/``              ``nnUNet_results`` of this model, unless several share one
``trained.json``          training and nnU-Net's own validation are finished
``attempts/*.json``       time and memory of every start (see ``measured.py``)
``train.log`` ...         output of the commands
========================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import glob
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import flush, new_folder, remove_temporaries, write_text
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.typed_records import Count, RecordError, read_entry
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import remove
from nnunet_semisam.jobs.nnunet_command import AUTO, command_environment, device_here
from nnunet_semisam.runs.attempts import PREDICT, TRAIN

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")  # as nnU-Net takes them
CHECKPOINT = CHECKPOINTS[0]  # never the best one: that is chosen on validation cases
REMEDY = "It must hold json, as it was written. Delete it and start again: what it held is made again."
COMMANDS = {
    TRAIN: "nnunetv2.run.run_training:run_training_entry",
    PREDICT: "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
}


@dataclass(frozen=True)
class ModelRun:
    """A model that nnU-Net trains; plain data, so that it travels to another machine.

    Attributes:
        folder: Keeps the state of the training; one model per folder.
        dataset: Name of the dataset.
        trainer: Class name.
        plans: Plans identifier.
        configuration: For example ``2d``.
        fold: Index in ``splits_final.json``.
        device: For nnU-Net's ``-device``; ``auto`` is found out where it trains.
        shared_results: ``nnUNet_results`` that other folds share; ``None``: ``results`` in the folder.
        environment: Variables of the commands, such as ``nnUNet_preprocessed``; they win over all others.
    """

    folder: Path
    dataset: str
    trainer: str
    plans: str
    configuration: str
    fold: int
    device: str = AUTO
    shared_results: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        """Folder for ``nnUNet_results``."""
        return self.shared_results or self.folder / "results"

    @property
    def model_folder(self) -> Path:
        """nnU-Net's output folder of all folds of the model, which ``nnUNetv2_predict`` reads."""
        return self.results / self.dataset / f"{self.trainer}__{self.plans}__{self.configuration}"

    @property
    def training_folder(self) -> Path:
        """nnU-Net's output folder of the fold."""
        return self.model_folder / f"fold_{self.fold}"

    @property
    def checkpoint(self) -> Path:
        """The network at the end of the training."""
        return self.training_folder / CHECKPOINT

    @property
    def settings_file(self) -> Path:
        """File with the settings of the training."""
        return self.folder / "settings.yaml"

    @property
    def trained_file(self) -> Path:
        """File that is there as soon as the training is finished."""
        return self.folder / "trained.json"

    def is_trained(self) -> bool:
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

    def train(
        self,
        wanted: Mapping[str, Any],
        variables: Mapping[str, str],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Train, or go on where a training was killed, and write down that it is finished.

        Args:
            wanted: Settings of the training; one that was begun keeps those that it began with.
            variables: Environment variables on top of those of this process.
            about: What else is written to ``trained.json``.

        Raises:
            CommandFailedError: If the command fails.
        """
        set_aside_damaged(self.training_folder, self.folder / "train.log")
        settings = self._begin(wanted)
        arguments = [self.dataset, self.configuration, str(self.fold), *self._model()]
        arguments += ["-device", device_here(self.device, variables)]
        self.command(TRAIN, [*arguments, *resume_option(self.training_folder)], variables)
        write_json(self.trained_file, {**(about or {}), "settings": settings})

    def _begin(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the training: those it began with or, as long as no checkpoint is there, today's."""
        if resume_option(self.training_folder):
            with contextlib.suppress(UserError):
                begun = read_mapping(self.settings_file, REMEDY)
                if begun:
                    return begun
        write_text(self.settings_file, yaml.safe_dump(dict(wanted), sort_keys=False))
        return dict(wanted)

    def predict(self, images: Path, target: Path, variables: Mapping[str, str], more: Sequence[str] = ()) -> None:
        """Segment all images of a folder with the final checkpoint; ``target`` is there when all are.

        Args:
            images: Folder with images.
            target: Folder for the segmentations, in the folder of the model.
            variables: Environment variables on top of those of this process.
            more: Arguments of ``nnUNetv2_predict``, such as ``--disable_tta``.

        Raises:
            CommandFailedError: If the command fails.
        """
        remove_temporaries(target.parent, glob.escape(target.name))
        remove(target)
        with new_folder(target) as unfinished:
            arguments = ["-i", str(images), "-o", str(unfinished)]
            arguments += ["-d", self.dataset, "-c", self.configuration, "-f", str(self.fold)]
            arguments += [*self._model(), "-chk", CHECKPOINT, *more]
            arguments += ["-device", device_here(self.device, variables)]
            self.command(PREDICT, arguments, variables)
            flush_files(unfinished)

    def _model(self) -> list[str]:
        return ["-tr", self.trainer, "-p", self.plans]

    def command(self, stage: str, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run one of :data:`COMMANDS` in the environment of this model. See :func:`run_measured`."""
        environment = command_environment(self.results, self.settings_file, {**variables, **self.environment})
        run_measured(stage, COMMANDS[stage], arguments, self.folder, environment, title=f"nnUNetv2_{stage}")


def run_measured(
    stage: str, entry: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], title: str
) -> None:
    """Run a function as a command, with a report of time and memory in ``attempts/`` and its output in a log.

    Args:
        stage: A stage of :mod:`~nnunet_semisam.runs.attempts`.
        entry: ``module:function``; the function takes the arguments of a command line of its own.
        arguments: Its arguments.
        folder: Gets the log and the report.
        environment: All environment variables.
        title: What the command is called in log and messages.

    Raises:
        CommandFailedError: If the command fails.
    """
    attempts = folder / "attempts"
    attempts.mkdir(parents=True, exist_ok=True)
    report = attempts / f"{stage}_{len(list(attempts.glob(f'{stage}_*.json'))):03d}.json"
    command = [sys.executable, "-m", "nnunet_semisam.runs.measured", str(report), stage, entry, *arguments]
    log = folder / f"{stage}.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {title} {' '.join(arguments)}\n")
    processes.run_checked(command, environment, log, stage, title=title)


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
            flush(path)
