"""Does a rule of suggestion beat chance? Labels grow from a few to more by each rule, and new cases judge.

For each seed the same few cases are labeled at first and one model is trained on them; from there each rule goes its
own way: it suggests cases, they get their labels, a new model is trained from scratch, and so on. The judged cases are
the same for all: they are neither labeled nor suggested, and nothing is chosen by them. Every step that is finished
is kept: the same command goes on where it was stopped.

    python -m benchmarks.suggest -d 4 -c 3d_fullres --budgets 2 4 8 --seeds 0 1 2 3 --judged 40 -o simulation
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._stages import REMEDY, Stage, Study, compare_stages, settings_of_length, write_dice
from nnunet_semisam.annotation.color_tables import label_names
from nnunet_semisam.annotation.suggest import Options, Suggester, rank
from nnunet_semisam.annotation.suggestions import RULES, Request
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.raw_files import image_files, label_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.jobs.nnunet_command import device_here
from nnunet_semisam.runs.raw_images import ModelPlace

CONTROL = "random"
COLUMNS = ["seed", "rule", "budget", "dice", "chosen"]


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


Dice = dict[tuple[str, int], dict[int, dict[str, float]]]
"""Rule and budget -> seed -> judged case -> Dice."""


def simulate(study: Study, budgets: Sequence[int], rules: Sequence[str], seeds: Sequence[int]) -> Dice:
    """Carry out all stages, and write a row for each rule, seed and budget."""
    rows: list[dict[str, Any]] = []
    found: Dice = {}
    for seed in seeds:
        start = Stage(study, seed, "", study.draw(seed, budgets[0]))
        first = start.work()
        for rule in rules:
            stage, dice, new = start, first, start.labeled
            for budget, after in zip(budgets, [*budgets[1:], None], strict=True):
                found.setdefault((rule, budget), {})[seed] = dice
                rows.append(_row(stage, rule, dice, new))
                write_table(study.out / "results.csv", COLUMNS, rows)
                if after is not None:
                    new = suggest(stage, rule, after - budget)
                    stage = Stage(study, seed, rule, sorted([*stage.labeled, *new]))
                    dice = stage.work()
    return found


def _row(stage: Stage, rule: str, dice: Mapping[str, float], new: Sequence[str]) -> dict[str, Any]:
    return {
        "seed": stage.seed,
        "rule": rule,
        "budget": len(stage.labeled),
        "dice": round(float(np.mean(list(dice.values()))), 4),
        "chosen": " ".join(new),
    }


def summary(found: Dice) -> list[str]:
    """Return a line for each rule and budget: mean Dice (%) of chance and of the rule, and the paired difference."""
    lines = []
    for (rule, budget), of_rule in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        if rule != CONTROL and any(of_rule[seed] != found[CONTROL, budget][seed] for seed in of_rule):  # not the start
            chance = {seed: found[CONTROL, budget][seed] for seed in of_rule}
            lines.append(f"{budget} labels, {rule} ({len(of_rule)} seeds): {compare_stages(chance, of_rule)}")
    return lines


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
    parser.add_argument(
        "--candidates", type=int, default=0, help="cases to choose from, drawn at random (default: all others)"
    )
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
    candidates = args.candidates or len(cases) - args.judged
    if candidates < args.budgets[-1] or len(cases) < args.judged + candidates:
        raise UserError(
            f"{dataset.raw} has {len(cases)} labels, too few for {args.judged} judged, {candidates} to choose from and "
            f"--budgets {args.budgets}. Give lower numbers."
        )
    order = [cases[index] for index in np.random.default_rng(2023).permutation(len(cases))]
    return Study(
        dataset,
        args.configuration,
        args.plans,
        args.trainer,
        settings_of_length(args.epochs, args.iterations),
        sorted(order[: args.judged]),
        sorted(order[args.judged :][:candidates]),
        device_here(args.device, {}),
        args.out,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Simulate, and print the summary."""
    args = build_parser().parse_args(words)
    try:
        study = study_of(args)
        rules = list(dict.fromkeys([CONTROL, *args.rules]))
        found = simulate(study, args.budgets, rules, args.seeds)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    write_dice(args.out / "dice.csv", {f"{rule} {budget}": by_seed for (rule, budget), by_seed in found.items()})
    print(*summary(found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
