"""Trainings of the studies here: some cases of a labeled dataset keep their labels, and new cases judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.label_efficiency.paired import two_way_interval
from nnunet_semisam.benchmark.metrics import score_case
from nnunet_semisam.benchmark.statistics import compare
from nnunet_semisam.data.datasets import PlannedDataset
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.io.atomic import new_folder, write_symlink
from nnunet_semisam.io.csv_files import read_table, write_table
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import write_splits

REMEDY = "Remove the folder and run the same command again."
DICE_COLUMNS = ("arm", "seed", "case", "dice")
Arms = Mapping[str, Mapping[int, Mapping[str, float]]]  # arm -> seed -> case -> Dice
THREADS = {"OMP_NUM_THREADS": "1", "nnUNet_semisam_threads": "1", "nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}


def settings_of_length(epochs: int, iterations: int) -> dict[str, int]:
    """Return the settings of a training of some epochs, with as little online validation as possible."""
    return {
        "num_epochs": epochs,
        "num_iterations_per_epoch": iterations,
        "num_val_iterations_per_epoch": 1,
        "save_every": 10,
    }


@dataclass(frozen=True)
class Study:
    """What the trainings of a study share.

    Attributes:
        dataset: A planned and preprocessed dataset whose cases have labels.
        configuration: For example ``3d_fullres``.
        plans: Plans identifier.
        trainer: Class name.
        settings: Of every training but its seed.
        judged: Cases that judge.
        candidates: All others.
        device: For nnU-Net's ``-device``.
        out: Folder of all stages.
    """

    dataset: PlannedDataset
    configuration: str
    plans: str
    trainer: str
    settings: Mapping[str, Any]
    judged: Sequence[str]
    candidates: Sequence[str]
    device: str
    out: Path

    def draw(self, seed: int, count: int) -> list[str]:
        """Return cases drawn at random: those of a smaller count are among those of a larger one."""
        order = np.random.default_rng(seed).permutation(len(self.candidates))
        return sorted(self.candidates[index] for index in order[:count])


@dataclass(frozen=True)
class Stage:
    """One training of a study.

    Attributes:
        study: The study.
        seed: Of the first labels, of the training, and of a rule's noise.
        rule: Who chose the labels, or how they are given; empty where that is the same for all.
        labeled: Cases with labels.
    """

    study: Study
    seed: int
    rule: str
    labeled: Sequence[str]

    @property
    def folder(self) -> Path:
        """Return the folder of the stage."""
        return self.study.out / f"seed_{self.seed}" / f"{self.rule or 'start'}_{len(self.labeled)}"

    @property
    def model(self) -> ModelRun:
        """Return the model of the stage."""
        study = self.study
        place = {
            "nnUNet_raw": str(study.dataset.raw.parent),
            "nnUNet_preprocessed": str(self.folder / "preprocessed"),
        }
        return ModelRun(
            self.folder,
            study.dataset.raw.name,
            study.trainer,
            study.plans,
            study.configuration,
            0,
            study.device,
            environment=place,
        )

    def work(self) -> dict[str, float]:
        """Train, predict the judged cases, and return each one's mean Dice; what is done is not repeated."""
        result = self.folder / "result.json"
        if result.is_file():
            return dict(read_object(result, REMEDY)["dice"])
        self._write_data()
        if not self.model.is_trained():
            self.model.train({**self.study.settings, "seed": self.seed}, THREADS)
        predictions = self.folder / "predictions"
        if not predictions.is_dir():
            self.model.predict(self._judged_images(), predictions, THREADS, ["-npp", "1", "-nps", "1"])
        dice = self._judge(predictions)
        write_json(result, {"dice": dice, "labeled": list(self.labeled)})
        return dice

    def _write_data(self) -> None:
        """Make a preprocessed folder of links, whose only own file is a fold with these labels."""
        own = self.folder / "preprocessed" / self.study.dataset.raw.name
        if own.is_dir():
            return
        with new_folder(own) as folder:
            for entry in self.study.dataset.preprocessed.iterdir():
                if entry.name != SPLITS_FILE:
                    write_symlink(folder / entry.name, entry.resolve())
            rest = [case for case in self.study.candidates if case not in self.labeled]
            fold = {"train": list(self.labeled), "val": [self.study.judged[0]], "unlabeled": rest}
            write_splits(folder / SPLITS_FILE, [fold])

    def _judged_images(self) -> Path:
        images = image_files(self.study.dataset.raw, self.study.dataset.dataset_json)["Tr"]
        target = self.study.out / "judged"
        with folder_lock(self.study.out, wait=True):  # commands with other seeds share the folder
            if target.is_dir():
                return target
            with new_folder(target) as folder:
                for case in self.study.judged:
                    for file in images[case]:
                        write_symlink(folder / Path(file).name, Path(file).resolve())
        return target

    def _judge(self, predictions: Path) -> dict[str, float]:
        dataset_json = self.study.dataset.dataset_json
        labels, ending = label_files(self.study.dataset.raw, dataset_json), dataset_json["file_ending"]
        found = {}
        for case in self.study.judged:
            scores = score_case(predictions / f"{case}{ending}", labels[case], dataset_json)
            dice = [each.scored for each in scores if each.metric == "dice" and each.scored is not None]
            if dice:  # no class is in the case and none was found
                found[case] = float(np.mean(dice))
        return found


def write_dice(path: Path, dice: Arms) -> None:
    """Write the mean Dice of every judged case of every training as a csv file, from which all else is computed."""
    rows = (
        {"arm": arm, "seed": seed, "case": case, "dice": value}
        for arm, by_seed in dice.items()
        for seed, of_seed in by_seed.items()
        for case, value in of_seed.items()
    )
    write_table(path, DICE_COLUMNS, rows)


def read_dice(path: Path) -> Arms:
    """Return what :func:`write_dice` wrote: arm -> seed -> case -> Dice."""
    dice: dict[str, dict[int, dict[str, float]]] = {}
    for row in read_table(path, DICE_COLUMNS, REMEDY):
        dice.setdefault(row["arm"], {}).setdefault(int(row["seed"]), {})[row["case"]] = float(row["dice"])
    return dice


def compare_stages(first: Mapping[int, Mapping[str, float]], second: Mapping[int, Mapping[str, float]]) -> str:
    """Return a line: both means, and the paired difference of the second from the first, with interval and tests.

    Args:
        first: Seed -> case -> Dice.
        second: The same, of what is compared with it.

    Returns:
        Differences are paired by seed and case. The interval resamples seeds and cases; the tests are Wilcoxon's, over
        cases (mean over seeds) and over seeds (mean over cases), and a single seed has no interval.
    """
    ours, theirs = _by_pair(second), _by_pair(first)
    over_cases = compare(ours, theirs, {pair: pair[1] for pair in ours})
    over_seeds = compare(ours, theirs, {pair: str(pair[0]) for pair in ours})
    low, high = two_way_interval(
        {
            (str(seed), seed): {case: dice - first[seed][case] for case, dice in of_seed.items() if case in first[seed]}
            for seed, of_seed in second.items()
        }
    )
    interval = "" if low is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    tests = "".join(
        f", p {found.p:.3f} over {name}" if found.p >= 0.001 else f", p < 0.001 over {name}"
        for name, found in (("cases", over_cases), ("seeds", over_seeds))
        if found.p is not None
    )
    means = [100 * np.mean(list(table.values())) for table in (theirs, ours)]
    return f"{means[0]:.1f} -> {means[1]:.1f}, {100 * over_cases.mean:+.1f}{interval}{tests}"


def _by_pair(dice: Mapping[int, Mapping[str, float]]) -> dict[tuple[int, str], float]:
    return {(seed, case): value for seed, of_seed in dice.items() for case, value in of_seed.items()}
