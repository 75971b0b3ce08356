"""Does a rule of suggestion beat chance? Labels grow from a few to more by each rule, and new cases judge.

For each seed the same few cases are labeled at first and one model is trained on them; from there each rule goes its
own way: it suggests cases, they get their labels, a new model is trained from scratch, and so on. The judged cases are
the same for all: they are neither labeled nor suggested, and nothing is chosen by them. Every step that is finished
is kept: the same command goes on where it was stopped.

    python benchmarks/suggest.py -d 4 -c 3d_fullres --budgets 2 4 8 --seeds 0 1 2 3 --judged 40 -o simulation
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_semisam.annotation.color_tables import label_names
from nnunet_semisam.annotation.suggest import Options, Suggester, rank
from nnunet_semisam.annotation.suggestions import RULES, Request
from nnunet_semisam.annotation.trained_model import ModelPlace
from nnunet_semisam.benchmark.metrics import score_case
from nnunet_semisam.data.datasets import PlannedDataset, open_dataset
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import new_folder, write_symlink
from nnunet_semisam.io.csv_files import table_text, write_table
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.splits.default_splits import SPLITS_FILE
from nnunet_semisam.splits.folds import write_splits

CONTROL = "random"
REMEDY = "Remove the folder and run the same command again."
COLUMNS = ["seed", "rule", "budget", "dice", "chosen"]
THREADS = {"OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Attributes:
        dataset: A planned and preprocessed dataset whose cases have labels.
        configuration: For example ``3d_fullres``.
        plans: Plans identifier.
        trainer: Class name.
        settings: Of every training but its seed.
        budgets: Numbers of labels, ascending; the first are drawn at random.
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
    budgets: Sequence[int]
    judged: Sequence[str]
    candidates: Sequence[str]
    device: str
    out: Path

    def first_labels(self, seed: int) -> list[str]:
        """Return the cases that every rule begins with."""
        order = np.random.default_rng(seed).permutation(len(self.candidates))
        return sorted(self.candidates[index] for index in order[: self.budgets[0]])


@dataclass(frozen=True)
class Stage:
    """One training of the simulation.

    Attributes:
        study: The simulation.
        seed: Of the first labels, of the training, and of the rule's noise.
        rule: Who chose the labels; empty for the first stage, which all rules share.
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

    def work(self) -> float:
        """Train, predict the judged cases, and return their mean Dice; what is done is not repeated."""
        result = self.folder / "result.json"
        if result.is_file():
            return float(read_object(result, REMEDY)["dice"])
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
        if not target.is_dir():
            with new_folder(target) as folder:
                for case in self.study.judged:
                    for file in images[case]:
                        write_symlink(folder / Path(file).name, Path(file).resolve())
        return target

    def _judge(self, predictions: Path) -> float:
        dataset_json = self.study.dataset.dataset_json
        labels, ending = label_files(self.study.dataset.raw, dataset_json), dataset_json["file_ending"]
        found = []
        for case in self.study.judged:
            scores = score_case(predictions / f"{case}{ending}", labels[case], dataset_json)
            found += [each.scored for each in scores if each.metric == "dice" and each.scored is not None]
        return float(np.mean(found))


def suggest(stage: Stage, rule: str, count: int) -> list[str]:
    """Return the cases that a rule suggests after a stage. It is given images and the stage's model, no label."""
    study = stage.study
    file = stage.folder / f"suggested_by_{rule}.json"
    if file.is_file():
        return list(read_object(file, REMEDY)["cases"])
    images = image_files(study.dataset.raw, study.dataset.dataset_json)["Tr"]
    pool = {case: images[case] for case in study.candidates if case not in stage.labeled}
    place = ModelPlace(stage.model.model_folder, ("0",))
    sam = "nano" if rule == "disagreement" else ""
    folder = stage.folder / ("suggestions_with_sam" if sam else "suggestions")
    suggester = Suggester(place, pool, folder, Options(study.device, sam=sam))
    labeled = suggester.labeled_features({case: images[case] for case in stage.labeled}) if rule == "diversity" else ()
    labels, names = suggester.model.labels, label_names(study.dataset.dataset_json)
    readable = labels.names if labels.has_regions else [names[int(value)] for value in labels.names]
    request = Request(count, readable, seed=stage.seed, labeled_features=labeled)
    chosen = [each.case for each in rank(suggester.look(), rule, request)]
    write_json(file, {"cases": chosen})
    return chosen


def simulate(study: Study, rules: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Carry out all stages and return a row for each rule, seed and budget."""
    rows = []
    for seed in seeds:
        start = Stage(study, seed, "", study.first_labels(seed))
        first = start.work()
        for rule in rules:
            stage, dice, new = start, first, start.labeled
            rows.append(_row(stage, rule, dice, new))
            for before, after in zip(study.budgets, study.budgets[1:], strict=False):
                new = suggest(stage, rule, after - before)
                stage = Stage(study, seed, rule, sorted([*stage.labeled, *new]))
                dice = stage.work()
                rows.append(_row(stage, rule, dice, new))
                write_table(study.out / "results.csv", COLUMNS, rows)
    write_table(study.out / "results.csv", COLUMNS, rows)
    return rows


def _row(stage: Stage, rule: str, dice: float, new: Sequence[str]) -> dict[str, Any]:
    return {
        "seed": stage.seed,
        "rule": rule,
        "budget": len(stage.labeled),
        "dice": round(dice, 4),
        "chosen": " ".join(new),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each rule and budget: mean Dice over seeds, and its paired difference from chance.

    The interval is mean plus and minus 1.96 standard errors of the differences over seeds: with few seeds too narrow.
    """
    dice = {(row["rule"], row["budget"], row["seed"]): float(row["dice"]) for row in rows}
    found = []
    for rule, budget in sorted({(rule, budget) for rule, budget, _ in dice}, key=lambda key: (key[1], key[0])):
        seeds = [seed for name, number, seed in dice if (name, number) == (rule, budget)]
        mine = [dice[rule, budget, seed] for seed in seeds]
        row = {"budget": budget, "rule": rule, "seeds": len(seeds), "dice": f"{np.mean(mine):.4f}"}
        pairs = [
            dice[rule, budget, seed] - dice[CONTROL, budget, seed] for seed in seeds if (CONTROL, budget, seed) in dice
        ]
        if rule != CONTROL and len(pairs) > 1:
            error = 1.96 * np.std(pairs, ddof=1) / np.sqrt(len(pairs))
            row["over random"] = f"{np.mean(pairs):+.4f} +/- {error:.4f}"
        found.append(row)
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", dest="dataset", required=True, help="planned and preprocessed dataset with labels")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="plans identifier (default: %(default)s)")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerSupervised", help="trainer (default: %(default)s)")
    parser.add_argument("-o", dest="out", type=Path, required=True, help="folder of the simulation")
    parser.add_argument("-device", default="auto", help="where to train (default: %(default)s)")
    parser.add_argument("--rules", nargs="+", default=RULES.names(), choices=RULES.names(), help="default: all")
    parser.add_argument("--budgets", nargs="+", type=int, default=[2, 4, 8], help="labels (default: 2 4 8)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="default: 0 1 2 3")
    parser.add_argument("--judged", type=int, default=40, help="cases that judge (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="of a training (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=50, help="steps of an epoch (default: %(default)s)")
    return parser


def study_of(args: argparse.Namespace) -> Study:
    """Return the simulation that a command line names.

    Raises:
        UserError: If the dataset is not planned, or has too few cases; if budgets do not rise.
    """
    dataset = open_dataset(args.dataset, args.plans)
    cases = sorted(label_files(dataset.raw, dataset.dataset_json))
    if sorted(set(args.budgets)) != args.budgets or args.budgets[0] < 1:
        raise UserError(f"--budgets must rise from 1 or more, got {args.budgets}.")
    if len(cases) < args.judged + args.budgets[-1]:
        raise UserError(f"{dataset.raw} has {len(cases)} labels, too few for {args.judged} judged and {args.budgets}.")
    order = [cases[index] for index in np.random.default_rng(2023).permutation(len(cases))]
    settings = {
        "num_epochs": args.epochs,
        "num_iterations_per_epoch": args.iterations,
        "num_val_iterations_per_epoch": 1,
        "save_every": 10,
    }
    from nnunet_semisam.jobs.nnunet_command import device_here

    return Study(
        dataset,
        args.configuration,
        args.plans,
        args.trainer,
        settings,
        args.budgets,
        sorted(order[: args.judged]),
        sorted(order[args.judged :]),
        device_here(args.device, {}),
        args.out,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, and print the summary."""
    args = build_parser().parse_args(words)
    try:
        study = study_of(args)
        rules = list(dict.fromkeys([CONTROL, *args.rules]))
        rows = simulate(study, rules, args.seeds)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(table_text(["budget", "rule", "seeds", "dice", "over random"], summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
