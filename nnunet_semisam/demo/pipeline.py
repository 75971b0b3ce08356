"""The demo from invented patients to the table, through the commands that a user types."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.demo import phantom, report
from nnunet_semisam.demo.plans import PLANS_NAME, write_small_plans
from nnunet_semisam.demo.schedule import (
    DEFAULT_STEPS,
    continued_steps,
    continued_yaml,
    start_yaml,
    steps_of,
    training_length,
)
from nnunet_semisam.demo.shell import Shell
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.csv_files import read_table
from nnunet_semisam.io.locks import LOCK_FILE
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.splits.folds import load_splits
from nnunet_semisam.threads import AUGMENTERS, THREADS, usable_cores
from nnunet_semisam.trainers_folder import trainers_folder
from nnunet_semisam.training.training_log import CSV_NAME

DATASET_ID, DATASET = 27, "Dataset027_ACDC"
BASELINE, SEMISAM = "nnUNetTrainerSupervised", "nnUNetTrainerSemiSAM"
TITLES = {BASELINE: "labeled cases only", SEMISAM: "and unlabeled cases"}
MARKER = ".nnunet-semisam-demo"  # only folders with this file in them are ever deleted
MOST_HELD_OUT_CASES = 12
OWN = {
    MARKER,
    LOCK_FILE,
    "database",
    "held_out",
    "logs",
    "nnUNet_preprocessed",
    "nnUNet_raw",
    "nnUNet_results",
    "nnUNet_results_continued",
    "comparison.png",
    "start.yaml",
    "continued.yaml",
    "table.txt",
}  # all that a demo writes into its folder


@dataclass(frozen=True)
class Demo:
    """One demo run.

    Attributes:
        folder: Where everything is written.
        acdc: The official ACDC folder (the one that holds ``training``), or ``None`` for invented patients.
        steps: Optimizer steps of the common start; the two trainings that go on from it have half of it each.
        device: ``cpu``, ``cuda`` or ``mps``, for nnU-Net's ``-device``.
    """

    folder: Path
    acdc: Path | None
    steps: int
    device: str

    def run(self) -> None:
        """Invent patients if there are none; convert, plan, train, go on with both trainers, predict and compare."""
        start = time.perf_counter()
        source = self.acdc or self.folder / "database"
        if self.acdc is None:
            names = phantom.write_patients(source)
            print(f"Invented {len(names)} patients in {source} (ellipses and noise, no real person).\n")
        shell = Shell(self.folder, self.variables())
        self.prepare(shell, source)
        images, labels = self.collect_held_out()
        self.train_start(shell)
        scores = self.go_on(shell, images, labels)
        self.report(scores, images, labels)
        minutes = (time.perf_counter() - start) / 60
        picture = self.folder / "comparison.png"
        print(f"\nThe demo took {minutes:.1f} minutes. Look at: {picture}")
        print("Next: the README's section 'Your own data'. Once before it, if not done yet: nnunet-semisam register")

    def variables(self) -> dict[str, str]:
        """Return the environment of the commands, after making its folders and the settings file."""
        names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        folders = {name: str(self.folder / name) for name in names}
        for folder in folders.values():
            Path(folder).mkdir()
        processes = str(min(2, usable_cores()))
        settings = self.folder / "start.yaml"
        write_text(settings, start_yaml(self.steps))
        write_text(self.folder / "continued.yaml", continued_yaml(self.steps, self.network))
        return {
            **folders,
            "nnUNet_extTrainer": str(trainers_folder()),
            "nnUNet_semisam_config": str(settings),
            AUGMENTERS: processes,
            "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: where cores are shared, spinning ones cost a lot
            "nnUNet_def_n_proc": "1",  # nnU-Net starts 8 for a validation: on two cores, minutes of imports
        }

    def prepare(self, shell: Shell, source: Path) -> None:
        """Convert, plan and preprocess; make the plans small."""
        labeled = "1" if self.acdc is None else "3"
        shell.run("nnunet-semisam", "convert", "acdc", "-i", source, "-d", str(DATASET_ID), "--labeled", labeled)
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

    def train_start(self, shell: Shell) -> None:
        """Train on the labeled cases alone: what both trainings go on from."""
        options = ("-tr", BASELINE, "-p", PLANS_NAME, "-device", self.device)
        shell.run("nnUNetv2_train", str(DATASET_ID), "2d", "0", *options)

    def go_on(self, shell: Shell, images: Path, labels: Path) -> dict[str, report.Scores]:
        """Go on with both trainers side by side; predict and evaluate with nnU-Net's own commands.

        Returns:
            Trainer -> Dice on the held-out cases.
        """
        shell.export("nnUNet_results", str(self.continued_results))
        shell.export("nnUNet_semisam_config", str(self.folder / "continued.yaml"))
        cores = max(1, usable_cores() // len(TITLES))
        shell.export(AUGMENTERS, str(min(2, cores)))
        if self.device == "cpu":
            shell.export(THREADS, str(cores))
        models = {trainer: ("-tr", trainer, "-p", PLANS_NAME, "-device", self.device) for trainer in TITLES}
        predicted = {trainer: self.prediction_folder(trainer) for trainer in TITLES}
        shell.run_together(*[("nnUNetv2_train", str(DATASET_ID), "2d", "0", *model) for model in models.values()])
        what = ("-d", str(DATASET_ID), "-c", "2d", "-f", "0", "-npp", "0", "-nps", "0")  # no processes of its own
        shell.run_together(
            *[("nnUNetv2_predict", "-i", images, "-o", predicted[name], *what, *models[name]) for name in TITLES]
        )
        classes = [str(label) for label in report.CLASSES]
        shell.run_together(
            *[("nnUNetv2_evaluate_simple", labels, predicted[name], "-l", *classes, "-np", "1") for name in TITLES]
        )
        return {trainer: report.read_scores(predicted[trainer] / "summary.json") for trainer in TITLES}

    @property
    def network(self) -> Path:
        """The checkpoint of the common start."""
        fold = self.folder / "nnUNet_results" / DATASET / f"{BASELINE}__{PLANS_NAME}__2d" / "fold_0"
        return fold / "checkpoint_final.pth"

    @property
    def continued_results(self) -> Path:
        """The nnUNet_results of the two trainings that go on from the common start."""
        return self.folder / "nnUNet_results_continued"

    def prediction_folder(self, trainer: str) -> Path:
        """Return the folder of a trainer's segmentations of the held-out cases."""
        return self.folder / "held_out" / trainer

    def report(self, scores: Mapping[str, report.Scores], images: Path, labels: Path) -> None:
        """Print the table and what it is worth; write the picture."""
        titles = {title: self.prediction_folder(trainer) for trainer, title in TITLES.items()}
        by_title = {title: scores[trainer] for trainer, title in TITLES.items()}
        cases = report.telling_cases(scores[BASELINE], scores[SEMISAM])
        report.write_picture(
            images, {"ground truth": labels, **titles}, by_title, cases, self.folder / "comparison.png"
        )
        text = report.table(scores)
        write_text(self.folder / "table.txt", text + "\n")
        start, more = steps_of(*training_length(self.steps)), steps_of(*training_length(continued_steps(self.steps)))
        what = "invented" if self.acdc is None else "ACDC"
        count = len(scores[BASELINE].by_case)
        print(f"\n{count} held-out {what} cases, {start} steps on labeled cases, then {more} with each trainer:\n")
        fold = self.continued_results / DATASET / f"{SEMISAM}__{PLANS_NAME}__2d" / "fold_0"
        print(f"{text}\n\n{self.worth(scores)}\n{use_of_unlabeled(fold)}")
        print(f"What was measured on real images is in docs/results.md.\nProgress and previews of the training: {fold}")

    def worth(self, scores: Mapping[str, report.Scores]) -> str:
        """Return what the table says; of trainings that are too short to learn anything, that it says nothing."""
        if self.steps < DEFAULT_STEPS:
            return (
                f"{self.steps} steps are too few to learn from: this demo shows that everything works together, its "
                f"numbers say nothing. The default, {DEFAULT_STEPS} steps, compares."
            )
        return (
            f"{report.verdict(scores[BASELINE], scores[SEMISAM])}\n"
            "One data set and one training each: it shows what the package does, not what your data gain."
        )


def use_of_unlabeled(fold: Path) -> str:
    """Return in words whether unlabeled cases were used at all, from the records of a training."""
    rows = list(read_table(fold / CSV_NAME, ["unlabeled_weight"], "Run the demo again."))
    used = [row for row in rows if float(row["unlabeled_weight"] or 0) > 0]
    rounds = [record for record in round_log.read(fold).rounds if record.cases]
    if not used:
        return (
            "No unlabeled case was used: the network did not know its labeled cases well enough yet. Give it more "
            "--steps."
        )
    return (
        f"Unlabeled cases were used in {len(used)} of {len(rows)} epochs, with {len(rounds)} rounds of pseudo-labels."
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
