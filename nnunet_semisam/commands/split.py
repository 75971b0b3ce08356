"""``nnunet-semisam split``: label budgets of a dataset as folds that share their validation cases."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_semisam.errors import UserError

HELP = "Cut a labeled dataset into label budgets: one fold per number of labeled patients, all others hidden."
EXAMPLE = "nnunet-semisam split -d 27 --labeled 1 3 7 --seed 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-d", dest="dataset", required=True, help="dataset id or name")
    parser.add_argument(
        "--labeled",
        nargs="+",
        required=True,
        metavar="N",
        help='how many groups (patients) keep their labels, one fold per number; or names; or "all"',
    )
    parser.add_argument(
        "--val", nargs="+", metavar="N", help="groups that validate: a number or names (default: a fifth of all)"
    )
    parser.add_argument(
        "--group", metavar="REGEX", help="what in a case's name is its patient (default: all but a frame number)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of labeling (default: %(default)s)")
    parser.add_argument("--order", type=Path, metavar="FILE", help="groups in the order of labeling, one per line")
    parser.add_argument(
        "--replan", action="store_true", help="plan on the smallest budget and the validation cases only"
    )
    parser.add_argument(
        "--plans-name", default="nnUNetPlansLabeled", metavar="NAME", help="plans of --replan (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other folds that are there")
    parser.add_argument("-np", dest="num_processes", type=int, default=4, help="processes (default: %(default)s)")


@dataclass(frozen=True)
class Budgets:
    """A split that was worked out and not yet written.

    Attributes:
        folds: Folds for ``splits_final.json``.
        labeled: Per fold, the labeled groups.
        val: Groups that validate.
        group_of: Returns the group of a case.
    """

    folds: list[dict[str, list[str]]]
    labeled: list[list[str]]
    val: list[str]
    group_of: Callable[[str], str]


def run(args: argparse.Namespace) -> None:
    """Work out the folds, check them for leaks, write them, and plan again if asked to."""
    from nnunet_semisam.data.datasets import environment_folder, find_dataset_name
    from nnunet_semisam.data.replan import plan_on

    raw, preprocessed = environment_folder("nnUNet_raw"), environment_folder("nnUNet_preprocessed")
    name = find_dataset_name(raw, args.dataset)
    raw, preprocessed = raw / name, preprocessed / name
    dataset_json = read_dataset_json(raw)
    budgets = make_budgets(args, raw, dataset_json["file_ending"])
    refuse_other_folds(budgets, preprocessed, args.overwrite)
    notes = check_leaks(budgets, raw, dataset_json, args.num_processes)
    if args.replan:
        smallest = min(budgets.folds, key=lambda fold: len(fold["train"]))
        seen = smallest["train"] + smallest["val"]
        plans = plan_on(raw, preprocessed, seen, args.plans_name, max(1, args.num_processes))
        notes += [
            f"{plans} was planned on {len(seen)} cases. Next: nnUNetv2_preprocess -d {int(name[7:10])} "
            f"-plans_name {args.plans_name} -c 2d 3d_fullres"
        ]
    write(args, budgets, preprocessed)
    print("\n".join(report(budgets, preprocessed, notes)))


def read_dataset_json(raw: Path) -> dict:
    """Return nnU-Net's dataset.json.

    Raises:
        UserError: If it is missing, is no json, or lacks the file ending.
    """
    path = raw / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["file_ending"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be used ({error!r}). It must be nnU-Net's, with a file_ending.") from error
    return content


def make_budgets(args: argparse.Namespace, raw: Path, file_ending: str) -> Budgets:
    """Return the folds that the options ask for.

    Raises:
        UserError: If the options do not fit the labeled cases.
    """
    from nnunet_semisam.commands.convert import load_package
    from nnunet_semisam.data.default_splits import labeled_cases
    from nnunet_semisam.data.label_budgets import choose_validation, group_function, group_order

    load_package()
    from nnunet_semisam.dataset_conversion.roles import choose_labeled, fold_of_budget

    cases = labeled_cases(raw, file_ending)
    if not cases:
        raise UserError(f"{raw / 'labelsTr'} holds no labels ending in {file_ending}. A split needs labeled cases.")
    group_of = group_function(args.group)
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(group_of(case), []).append(case)
    val, rest = choose_validation(args.val, group_order(list(members), args.seed, args.order))
    labeled = choose_labeled(args.labeled, rest)
    folds = [
        fold_of_budget(groups, [name for name in rest if name not in groups], val, members.__getitem__)
        for groups in labeled
    ]
    return Budgets(folds, labeled, val, group_of)


def check_leaks(budgets: Budgets, raw: Path, dataset_json: dict, num_processes: int) -> list[str]:
    """Return notes on images that are there twice.

    Raises:
        UserError: If a group or an image is on two sides.
    """
    from nnunet_semisam.data import leakage

    files = leakage.image_files(raw, dataset_json["file_ending"])
    if missing := sorted(
        {case for fold in budgets.folds for cases in fold.values() for case in cases} - {*files["Tr"]}
    ):
        raise UserError(
            f"{raw / 'imagesTr'} lacks the image of {len(missing)} labeled case(s): {', '.join(missing[:5])}. Add "
            f"{missing[0]}_0000{dataset_json['file_ending']}, or remove the label."
        )
    sides = leakage.sides_of(budgets.folds[0], files)  # every fold has the same three sides
    leakage.refuse_leaks(leakage.shared_groups(sides, budgets.group_of), raw)
    leaks, notes = leakage.shared_images(sides, leakage.content_digests(files, dataset_json, num_processes))
    leakage.refuse_leaks(leaks, raw)
    return notes


def refuse_other_folds(budgets: Budgets, preprocessed: Path, overwrite: bool) -> None:
    """Refuse to replace folds that somebody may have trained on.

    Raises:
        UserError: If other folds are there and ``overwrite`` is off.
    """
    from nnunet_semisam.data.default_splits import SPLITS_FILE
    from nnunet_semisam.data.splits import load_splits, same_splits

    target = preprocessed / SPLITS_FILE
    if target.is_file() and not overwrite and not same_splits(load_splits(target), budgets.folds):
        raise UserError(
            f"{target} holds other folds. Models trained on them would no longer fit: use --overwrite if there are "
            "none worth keeping, or copy the dataset to another id."
        )


def write(args: argparse.Namespace, budgets: Budgets, preprocessed: Path) -> None:
    """Write the folds, the budgets, and how they were chosen, where nnU-Net's training looks for them."""
    from nnunet_semisam.data.default_splits import SPLITS_FILE
    from nnunet_semisam.data.label_budgets import BUDGETS_FILE, SPLIT_FILE, budget_record
    from nnunet_semisam.data.splits import write_json, write_splits

    preprocessed.mkdir(parents=True, exist_ok=True)
    write_splits(preprocessed / SPLITS_FILE, budgets.folds, overwrite=args.overwrite)
    write_json(preprocessed / BUDGETS_FILE, budget_record(budgets.labeled))
    order = args.order.read_text(encoding="utf-8").splitlines() if args.order else None
    chosen = {"labeled": args.labeled, "val": budgets.val, "group": args.group, "seed": args.seed, "order": order}
    write_json(preprocessed / SPLIT_FILE, chosen)


def report(budgets: Budgets, preprocessed: Path, notes: Sequence[str]) -> list[str]:
    """Return the lines that tell a user what was made."""
    lines = [f"{preprocessed / 'splits_final.json'}: {len(budgets.folds)} fold(s), no leak found."]
    for index, (fold, groups) in enumerate(zip(budgets.folds, budgets.labeled, strict=True)):
        lines.append(
            f"  fold {index}: {len(groups)} labeled groups ({len(fold['train'])} cases), {len(fold['val'])} validation "
            f"cases, {len(fold.get('unlabeled', []))} hide their labels"
        )
    lines += [f"note: {note}" for note in notes]
    if len(budgets.folds) > 1:
        lines.append(
            "note: the folds are label budgets and share their validation cases. Give nnUNetv2_find_best_configuration "
            "and nnUNetv2_predict one fold with -f."
        )
    return lines
