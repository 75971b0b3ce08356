"""A self-training of the tiny dataset whose commands run in this process: starting Python takes most of their time."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_nnunet
import torch

from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.jobs.processes import CommandFailedError
from nnunet_semisam.pseudo_labels.calibration import Calibration
from nnunet_semisam.pseudo_labels.round_log import ClassRecord
from nnunet_semisam.runs import model_run
from nnunet_semisam.self_training import tasks
from nnunet_semisam.self_training.plan import SelfTraining, begin, make_plan

SETTINGS = {
    "num_epochs": 1,
    "num_iterations_per_epoch": 2,
    "num_val_iterations_per_epoch": 1,
    "save_every": 1,
    "seed": 3,
}


class Commands:
    """In place of processes: runs the function of a command here, with its environment; dies when it is told to.

    Attributes:
        calls: Stage and arguments of every command, in their order.
        dies: Stage -> how often its commands are to end at once, as if they were killed.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.dies: dict[str, int] = {}

    def __call__(
        self,
        stage: str,
        entry: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        title: str,
    ) -> None:
        name = entry.partition(":")[0].rpartition(".")[2]
        self.calls.append((name, list(arguments)))
        folder.mkdir(parents=True, exist_ok=True)
        if self.dies.get(name, 0):
            self.dies[name] -= 1
            raise CommandFailedError(stage, -9, "killed")
        before, words = dict(os.environ), list(sys.argv)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [title, *arguments]
        try:
            module, function = entry.split(":")
            getattr(importlib.import_module(module), function)()
        except SystemExit as error:
            raise CommandFailedError(stage, 1, str(error)) from error
        finally:
            os.environ.clear()
            os.environ.update(before)
            sys.argv = words
            torch.set_num_threads(1)

    def names(self) -> list[str]:
        """Return which commands were run."""
        return [name for name, _ in self.calls]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """What stands in the place of processes."""
    made = Commands()
    monkeypatch.setattr(tasks, "run_measured", made)
    monkeypatch.setattr(model_run, "run_measured", made)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    # nnU-Net's validation starts processes for every training; tests/self_training/test_command.py sees it
    trainer = "nnunet_semisam.training.trainer.SemiSupervisedTrainer"
    monkeypatch.setattr(f"{trainer}.perform_actual_validation", lambda self, save_probabilities=False: None)
    return made


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that decides what a calibration concludes: the weight of each class, whatever is measured."""

    def decide(*weights: float) -> None:
        measured = Calibration.classes

        def concluded(self: Calibration) -> tuple[ClassRecord, ...]:
            return tuple(replace(entry, weight=w) for entry, w in zip(measured(self), weights, strict=True))

        monkeypatch.setattr(Calibration, "classes", concluded)

    return decide


@pytest.fixture
def make(tiny_dataset: Path, tmp_path: Path) -> Callable[..., SelfTraining]:
    """Return a function that begins a self-training of the tiny dataset in a folder of its own."""

    def made(name: str = "out", folds: Sequence[int] = (0,), **options: Any) -> SelfTraining:
        defaults = {
            "folder": tmp_path / name,
            "configuration": "2d",
            "trainer": "nnUNetTrainerSupervised",
            "final_trainer": "nnUNetTrainerSupervised",
            "settings": SETTINGS,
            "rounds": 1,
            "threshold": 0.4,  # an untrained network of three classes is sure of nothing
            "device": "cpu",
        }
        dataset = open_dataset(tiny_nnunet.DATASET, tiny_nnunet.PLANS)
        plan = make_plan(dataset, tiny_nnunet.PLANS, folds, {**defaults, **options})
        begin(plan)
        return plan

    return made
