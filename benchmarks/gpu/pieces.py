"""What is measured on a GPU, in order of worth; every task is one command that writes its figures to a json file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent
TRAINERS = ("nnU-Net", "Supervised", "MeanTeacher", "SemiSAM", "SemiSAM-half")
ARMS = ("baseline", "meanteacher", "default")
JSON, SECONDS = "{json}", "{seconds}"  # in a command: where its figures go, and how long it may run


TINY_NETWORK = ("--features", "4", "8", "8", "--batch-size", "2", "--cases", "2")


@dataclass(frozen=True)
class Lengths:
    """How much is measured.

    Attributes:
        sizes_2d: Options of the benchmarks of a trainer: the size of network, patches and cases in 2D.
        sizes_3d: The same in 3D.
        repeats: Timed rounds.
        stage_repeats: Rounds of pseudo-labels.
        nano_steps: Steps of the nano SAM's pretraining.
        epochs: Epochs of a training.
        steps_per_epoch: Optimiser steps of an epoch.
        checkpoints: After how many epochs a training is judged.
        dataset: Name of the dataset's folder.
        plans: Name of its plans.
        configuration: Which of the plans' configurations.
    """

    sizes_2d: tuple[str, ...] = ("--full",)
    sizes_3d: tuple[str, ...] = ("--full",)
    repeats: int = 25
    stage_repeats: int = 3
    nano_steps: int = 2000
    epochs: int = 20
    steps_per_epoch: int = 100
    checkpoints: tuple[int, ...] = (5, 10, 15, 20)
    dataset: str = "Dataset027_ACDC"
    plans: str = "nnUNetPlans"
    configuration: str = "2d"

    def sizes(self, configuration: str) -> tuple[str, ...]:
        """Return the options of a configuration."""
        return self.sizes_2d if configuration == "2d" else self.sizes_3d


TINY = Lengths(
    sizes_2d=(*TINY_NETWORK, "--patch-size", "32", "32", "--shape", "3", "40", "40"),
    sizes_3d=(*TINY_NETWORK, "--patch-size", "16", "16", "16", "--shape", "20", "20", "20"),
    repeats=1,
    stage_repeats=1,
    nano_steps=1,
    epochs=2,
    steps_per_epoch=2,
    checkpoints=(1, 2),
)


@dataclass(frozen=True)
class Task:
    """One command.

    Attributes:
        name: For the record; a piece's name and a point begin it.
        command: Its words; see :data:`JSON` and :data:`SECONDS`.
        least_seconds: It is not begun with less time left.
    """

    name: str
    command: tuple[str, ...]
    least_seconds: int = 60

    @property
    def piece(self) -> str:
        """Name of the piece that it belongs to."""
        return self.name.partition(".")[0]


def tasks(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    """Return all tasks, in order of worth.

    Args:
        device: ``cuda`` or ``cpu``.
        lengths: How much is measured.
        data: Folder with ``preprocessed/`` for the trainings.
        work: Folder for what tasks keep between two starts.
    """
    parts = [_step, _synchronisations, _stage, _nano, _trainings]
    return [task for part in parts for task in part(device, lengths, data, work)]


def _script(name: str, device: str, configuration: str, lengths: Lengths, *more: str) -> tuple[str, ...]:
    where = ("--device", device, "--configuration", configuration, "--json", JSON)
    return (sys.executable, str(SCRIPTS / f"{name}.py"), *where, *lengths.sizes(configuration), *more)


def _step(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    found = []
    for configuration in ("2d", "3d_fullres"):
        repeats = ("--repeats", str(lengths.repeats), "--no-memory")
        found.append(Task(f"step.{configuration}", _script("step", device, configuration, lengths, *repeats)))
    for configuration in ("2d", "3d_fullres"):
        for name in TRAINERS:
            command = _script("step", device, configuration, lengths, "--memory-of", name)
            found.append(Task(f"step.memory_{configuration}_{name}", command))
    return found


def _synchronisations(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    return [Task("sync.2d", _script("synchronisations", device, "2d", lengths, "--repeats", "5"))]


def _stage(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    repeats = ("--repeats", str(lengths.stage_repeats))
    return [
        Task(f"stage.{model}", _script("sam_stage", device, "2d", lengths, *repeats, "--model", model))
        for model in ("nano", "vit_b")
    ]


def _nano(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    options = ("--out", str(work / "nano"), "--steps", str(lengths.nano_steps), "--device", device, "--json", JSON)
    return [Task("nano.pretrain", (sys.executable, "-m", "benchmarks.gpu.nano", *options))]


def _trainings(device: str, lengths: Lengths, data: Path, work: Path) -> list[Task]:
    found = []
    for arm in ARMS:
        options = ["--arm", arm, "--preprocessed", str(data / "preprocessed"), "--work", str(work / f"training_{arm}")]
        options += ["--dataset", lengths.dataset, "--plans", lengths.plans, "--configuration", lengths.configuration]
        options += ["--epochs", str(lengths.epochs), "--steps-per-epoch", str(lengths.steps_per_epoch)]
        options += ["--checkpoints", *map(str, lengths.checkpoints)]
        options += ["--device", device, "--seconds", SECONDS, "--json", JSON]
        found.append(Task(f"training.{arm}", (sys.executable, "-m", "benchmarks.gpu.training", *options)))
    return found


def chosen(all_tasks: Sequence[Task], names: Sequence[str]) -> list[Task]:
    """Return the tasks of some pieces, or single ones by their whole names; all if none is named."""
    known = list(dict.fromkeys(word for task in all_tasks for word in (task.piece, task.name)))
    for name in names:
        if name not in known:
            raise SystemExit(f"There is no piece {name!r}. There are: {', '.join(known)}.")
    return [task for task in all_tasks if not names or task.piece in names or task.name in names]
