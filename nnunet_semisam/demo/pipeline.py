"""The demo from invented patients to the table, through the commands that a user types."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.demo import phantom, report
from nnunet_semisam.demo.plans import PLANS_NAME, write_small_plans
from nnunet_semisam.demo.shell import Shell
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.locks import LOCK_FILE
from nnunet_semisam.splits.folds import load_splits
from nnunet_semisam.trainers_folder import trainers_folder

DATASET_ID, DATASET = 27, "Dataset027_ACDC"
TRAINERS = ("nnUNetTrainerSupervised", "nnUNetTrainerSemiSAM")
MARKER = ".nnunet-semisam-demo"  # only folders with this file in them are ever deleted
MOST_HELD_OUT_CASES = 8
OWN = {
    MARKER,
    LOCK_FILE,
    "database",
    "held_out",
    "logs",
    "nnUNet_preprocessed",
    "nnUNet_raw",
    "nnUNet_results",
    "pictures",
    "settings.yaml",
    "table.txt",
}  # all that a demo writes into its folder


@dataclass(frozen=True)
class Demo:
    """One demo run.

    Attributes:
        folder: Where everything is written.
        acdc: The official ACDC folder (the one that holds ``training``), or ``None`` for invented patients.
        steps: Optimizer steps of each training.
        device: ``cpu``, ``cuda`` or ``mps``, for nnU-Net's ``-device``.
    """

    folder: Path
    acdc: Path | None
    steps: int
    device: str

    def run(self) -> None:
        """Invent patients if there are none; convert, plan, train with both trainers, predict and compare."""
        start = time.perf_counter()
        source = self.acdc or self.folder / "database"
        if self.acdc is None:
            names = phantom.write_patients(source)
            print(f"Invented {len(names)} patients in {source} (ellipses and noise, no real person).\n")
        shell = Shell(self.folder, self.variables())
        self.prepare(shell, source)
        images, labels = self.collect_held_out()
        rows = {trainer: self.train_and_predict(shell, trainer, images, labels) for trainer in TRAINERS}
        self.report(rows, images, labels)
        print(f"\nThe demo took {(time.perf_counter() - start) / 60:.1f} minutes.")

    def variables(self) -> dict[str, str]:
        """Return the environment of the commands, after making its folders and the settings file."""
        names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        folders = {name: str(self.folder / name) for name in names}
        for folder in folders.values():
            Path(folder).mkdir()
        processes = str(min(2, os.cpu_count() or 1))
        settings = self.folder / "settings.yaml"
        write_text(settings, settings_yaml(self.steps))
        return {
            **folders,
            "nnUNet_extTrainer": str(trainers_folder()),
            "nnUNet_semisam_config": str(settings),
            "nnUNet_n_proc_DA": processes,
            "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: where cores are shared, spinning ones cost a lot
            "nnUNet_def_n_proc": processes,  # nnU-Net starts 8 for a validation: on two cores, minutes of imports
        }

    def prepare(self, shell: Shell, source: Path) -> None:
        """Convert, plan and preprocess; make the plans small."""
        shell.run("nnunet-semisam", "convert", "acdc", "-i", source, "-d", str(DATASET_ID), "--labeled", "3")
        shell.run("nnUNetv2_plan_and_preprocess", "-d", str(DATASET_ID), "-c", "2d", "-npfp", "2", "-np", "2")
        plans = write_small_plans(self.folder / "nnUNet_preprocessed" / DATASET)
        print(f"Wrote {plans}: a narrower network, smaller patches (edited plans, as nnU-Net's documentation shows).")
        shell.run("nnunet-semisam", "preprocess", "-d", str(DATASET_ID), "-c", "2d", "-p", PLANS_NAME, "-np", "2")

    def collect_held_out(self) -> tuple[Path, Path]:
        """Copy cases that no training sees: test cases with labels, or else the validation cases of fold 0.

        Returns:
            Folders with the images and with the labels.
        """
        raw = self.folder / "nnUNet_raw" / DATASET
        part = "Ts"
        cases = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTs").glob("*.nii.gz"))
        if not cases:
            part = "Tr"
            cases = load_splits(raw / "splits_final.json")[0]["val"]
        images = self.folder / "held_out" / "images"
        labels = self.folder / "held_out" / "labels"
        images.mkdir(parents=True)
        labels.mkdir()
        for case in cases[:MOST_HELD_OUT_CASES]:
            shutil.copy(raw / f"images{part}" / f"{case}_0000.nii.gz", images)
            shutil.copy(raw / f"labels{part}" / f"{case}.nii.gz", labels)
        return images, labels

    def train_and_predict(self, shell: Shell, trainer: str, images: Path, labels: Path) -> dict[str, float]:
        """Train, predict and evaluate with nnU-Net's own commands.

        Returns:
            Mean Dice per class on the held-out cases, in [0, 1].
        """
        device = ("-device", self.device)
        model = ("-tr", trainer, "-p", PLANS_NAME)
        shell.run("nnUNetv2_train", str(DATASET_ID), "2d", "0", *model, *device)
        predicted = self.prediction_folder(trainer)
        options = ("-d", str(DATASET_ID), "-c", "2d", "-f", "0", *model, *device, "-npp", "1", "-nps", "1")
        shell.run("nnUNetv2_predict", "-i", images, "-o", predicted, *options)
        classes = [str(label) for label in report.CLASSES]
        shell.run("nnUNetv2_evaluate_simple", labels, predicted, "-l", *classes, "-np", "1")
        return report.read_dice(predicted / "summary.json")

    def prediction_folder(self, trainer: str) -> Path:
        """Return the folder of a trainer's segmentations of the held-out cases."""
        return self.folder / "held_out" / trainer

    def report(self, rows: dict[str, dict[str, float]], images: Path, labels: Path) -> None:
        """Print the table and what it is worth; write the pictures."""
        masks = {"ground truth": labels, **{trainer: self.prediction_folder(trainer) for trainer in rows}}
        pictures = report.write_pictures(images, masks, self.folder / "pictures")
        text = report.table(rows)
        write_text(self.folder / "table.txt", text + "\n")
        count = len(list(labels.glob("*.nii.gz")))
        what = "invented" if self.acdc is None else "ACDC"
        epochs, iterations = training_length(self.steps)
        print(f"\n{count} held-out {what} cases, {epochs * iterations} optimizer steps per trainer:\n\n{text}\n")
        print(
            "So short a training of a small network proves that everything works together. It says nothing about what "
            "unlabeled cases gain:\ndocs/results.md holds what was measured for that.\n"
            f"Pictures: {', '.join(str(path) for path in pictures)}\n"
            f"Training logs, settings and previews: {self.folder / 'nnUNet_results' / DATASET}"
        )


def training_length(steps: int) -> tuple[int, int]:
    """Return epochs (ten at most) and iterations per epoch of a training of at least ``steps`` optimizer steps."""
    epochs = min(10, steps)
    return epochs, -(-steps // epochs)


def settings_yaml(steps: int) -> str:
    """Return the settings of both trainings: their length, a seed, and a gate that opens within minutes."""
    epochs, iterations = training_length(steps)
    return (
        "# nnunet-semisam demo: a training of minutes\n"
        f"num_epochs: {epochs}\n"
        f"num_iterations_per_epoch: {iterations}\n"
        "num_val_iterations_per_epoch: 2\n"
        f"save_every: {epochs}\n"
        "seed: 1\n"
        "gate:\n"
        "  dice: 0.2  # by default the unlabeled terms wait for 0.8, which takes longer than a demo\n"
        "  start: any\n"
        "sam:\n"
        "  refresh_epochs: 3\n"
        "  cases_per_refresh: 4\n"
    )


def refuse_other_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything but an earlier demo, or one that may not be deleted.

    Args:
        folder: Where the demo is to be written.
        overwrite: Whether an earlier demo may be deleted.

    Raises:
        UserError: If the folder is in use.
    """
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not names or (folder.is_dir() and names <= {LOCK_FILE}):
        return
    if not (folder / MARKER).is_file():
        raise UserError(f"{folder} exists and is not a folder of an earlier demo. Choose another with --folder.")
    if not overwrite:
        raise UserError(f"{folder} holds an earlier demo. Add --overwrite to delete it, or choose another --folder.")
    foreign = sorted(names - OWN)
    if foreign:
        raise UserError(
            f"{folder} holds an earlier demo, and what is not the demo's: {name_some(foreign, 5)}. Nothing was "
            "deleted. Move it away, or choose another --folder."
        )


def claim_folder(folder: Path, overwrite: bool) -> Path:
    """Make the demo's folder; what an earlier demo left in it is deleted, its marker last.

    Args:
        folder: New or empty folder, or one of an earlier demo if ``overwrite`` is set.
        overwrite: Whether an earlier demo may be deleted.

    Returns:
        The absolute path.

    Raises:
        UserError: If the folder is in use.
    """
    folder = folder.resolve()
    refuse_other_folder(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    for path in sorted(folder.iterdir()):
        if path.name in (MARKER, LOCK_FILE):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return folder
