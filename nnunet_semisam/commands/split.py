"""``nnunet-semisam split``: label budgets of a dataset as folds that share their validation cases."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.commands import _options
from nnunet_semisam.errors import UserError, name_some

if TYPE_CHECKING:
    from nnunet_semisam.splits.folds import Split
    from nnunet_semisam.splits.label_budgets import LabelBudget

HELP = "Cut a labeled dataset into label budgets: one fold per number of labeled patients, all others hidden."
EXAMPLE = "nnunet-semisam split -d 7 --labeled 1 3 7"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _options.add(parser, "dataset")
    parser.add_argument(
        "--labeled",
        nargs="+",
        required=True,
        metavar="N",
        help='how many groups (patients) keep their labels, one fold per number; or names; or "all"',
    )
    parser.add_argument(
        "--val",
        nargs="+",
        metavar="N",
        help="groups that validate: a number (the last ones of the order), names, or 0 for a cross-validation among "
        "the labeled ones (default: those of the converter, or a fifth)",
    )
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="what in a case's name is its patient (default: what the converter wrote, or all but a frame number)",
    )
    parser.add_argument(
        "--seed", type=int, help="seed of the order of labeling (default: the order of the converter, or 12345)"
    )
    parser.add_argument("--order", type=Path, metavar="FILE", help="groups in the order of labeling, one per line")
    parser.add_argument(
        "--replan", action="store_true", help="plan on the smallest budget and the validation cases only"
    )
    parser.add_argument(
        "--plans-name", default="nnUNetPlansLabeled", metavar="NAME", help="plans of --replan (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other folds that are there")
    _options.add(parser, "processes")


@dataclass(frozen=True)
class SplitChoice:
    """What was asked for, and the order that followed: the content of ``semisam_split.json``.

    Attributes:
        labeled: ``--labeled``.
        val: Groups that validate.
        group: Pattern that finds the group of a case; ``None`` cuts off frame numbers.
        seed: Seed of the order.
        order: Groups in the order in which labels are given out.
    """

    labeled: list[str]
    val: list[str]
    group: str | None
    seed: int
    order: list[str]


@dataclass(frozen=True)
class Budgets:
    """A split that was worked out and not yet written.

    Attributes:
        folds: Folds for ``splits_final.json``.
        labeled: Per fold, the groups that are labeled.
        choice: For ``semisam_split.json``.
        group_of: Returns the group of a case.
        notes: Sentences for the user.
    """

    folds: list[Split]
    labeled: list[LabelBudget]
    choice: SplitChoice
    group_of: Callable[[str], str]
    notes: list[str]


def run(args: argparse.Namespace) -> None:
    """Work out the folds, check them for leaks, write them, and plan again if asked to."""
    from nnunet_semisam.data.dataset_json import read_dataset_json
    from nnunet_semisam.data.datasets import environment_folder, find_dataset_name
    from nnunet_semisam.data.raw_files import notes_on_unused
    from nnunet_semisam.splits.replan import check_plans_name, fingerprint_notes, plan_on

    if args.replan:
        check_plans_name(args.plans_name)
    raw, preprocessed = environment_folder("nnUNet_raw"), environment_folder("nnUNet_preprocessed")
    name = find_dataset_name(raw, args.dataset)
    raw, preprocessed = raw / name, preprocessed / name
    refuse_unusable_folder(preprocessed)
    dataset_json = read_dataset_json(raw / "dataset.json")
    budgets = make_budgets(args, raw, dataset_json)
    refuse_hidden_labels_of_ct(args, budgets, dataset_json)
    targets = targets_of(raw, preprocessed)
    refuse_other_folds(budgets, targets, args.overwrite)
    notes = (
        budgets.notes + notes_on_unused(raw, dataset_json) + check_leaks(budgets, raw, dataset_json, args.num_processes)
    )
    if args.replan:
        smallest = min(budgets.folds, key=lambda fold: len(fold["train"]))
        seen = sorted({*smallest["train"], *smallest["val"]})
        plans = plan_on(raw, preprocessed, seen, args.plans_name, args.num_processes)
        notes += [*fingerprint_notes(preprocessed), f"{plans} was planned on {len(seen)} cases. Next:"]
        notes += next_commands(raw, dataset_json, args.plans_name)
    write(budgets, preprocessed, targets)
    print("\n".join(report(budgets, targets, notes)))


def next_commands(raw: Path, dataset_json: dict, plans_name: str) -> list[str]:
    """Return the commands that use plans of another name than nnU-Net's, each of which must be told."""
    from nnunet_semisam.data.next_steps import after_preprocessing, configurations

    number, names = int(raw.name[7:10]), " ".join(configurations(raw, dataset_json))
    unlabeled = []
    if (raw / "imagesUl").is_dir():
        unlabeled = [f"  nnunet-semisam preprocess -d {number} -c {names} -p {plans_name}"]
    return [
        f"  nnUNetv2_preprocess -d {number} -plans_name {plans_name} -c {names}",
        *unlabeled,
        *(f"  {line}" for line in after_preprocessing(raw, dataset_json, "nnUNetTrainerSemiSAM", plans=plans_name)),
    ]


def make_budgets(args: argparse.Namespace, raw: Path, dataset_json: dict) -> Budgets:
    """Return the folds that the options ask for.

    Raises:
        UserError: If the options do not fit the labeled cases.
    """
    from nnunet_semisam.data.raw_files import describe_labels, label_files
    from nnunet_semisam.splits.case_assignment import assignment_from_order, make_folds
    from nnunet_semisam.splits.group_selection import as_name
    from nnunet_semisam.splits.label_budgets import SEED, group_function, labeling_order, members_of, read_grouping

    cases = list(label_files(raw, dataset_json))
    if not cases:
        raise UserError(
            f"{describe_labels(raw, dataset_json)} holds no labels. A split needs labeled cases. Add some, or correct "
            f"{raw / 'dataset.json'}."
        )
    written = read_grouping(raw)
    pattern = written.pattern if args.group is None else args.group
    group_of = group_function(pattern)
    members = members_of(cases, group_of)
    order, val = labeling_order(written, members, args.group, args.seed, args.order)
    lost = sorted(set(written.val) - set(members)) if val is not None and not args.val else []
    if args.val:
        val = args.val
    elif val is not None:
        val = [as_name(group) for group in val]
    assignment = assignment_from_order(args.labeled, val, order, members=members)
    folds, labeled = make_folds(assignment, members.__getitem__, hide=True)
    seed = SEED if args.seed is None else args.seed
    choice = SplitChoice(args.labeled, assignment.val, pattern, seed, assignment.order)
    notes = list(assignment.notes)
    if lost:
        notes.append(
            f"{len(lost)} validation group(s) of the converter have no labels here and are left out: "
            f"{name_some(lost, 5)}"
        )
    return Budgets(folds, labeled, choice, group_of, notes)


def refuse_hidden_labels_of_ct(args: argparse.Namespace, budgets: Budgets, dataset_json: dict) -> None:
    """Refuse folds that training would refuse after hours of preprocessing.

    Raises:
        UserError: If labels are hidden, a channel is normalised with numbers from all of them, and ``--replan`` is
            off.
    """
    from nnunet_semisam.data.dataset_json import channel_names
    from nnunet_semisam.splits.replan import ct_channels

    channels = ct_channels(channel_names(dataset_json))
    if channels and not args.replan and any(fold.get("unlabeled") for fold in budgets.folds):
        raise UserError(
            f"Channel {channels[0]} is normalised with numbers from all labels in labelsTr, so training would refuse "
            "folds that hide some of them. Add --replan: plans from the labels of the smallest budget."
        )


def check_leaks(budgets: Budgets, raw: Path, dataset_json: dict, num_processes: int) -> list[str]:
    """Return notes on images that are there twice.

    Raises:
        UserError: If a group or an image is on two sides.
    """
    from nnunet_semisam.data.raw_files import image_files
    from nnunet_semisam.splits import leakage

    files = image_files(raw, dataset_json)
    used = {case for fold in budgets.folds for cases in fold.values() for case in cases}
    missing = sorted(used - files["Tr"].keys())
    if missing:
        raise UserError(
            f"{raw / 'imagesTr'} lacks the image of {len(missing)} labeled case(s): {name_some(missing, 5)}. Add "
            f"{missing[0]}_0000{dataset_json['file_ending']}, or remove the label."
        )
    both = sorted(set(files["Tr"]) & set(files["Ul"]))
    if both:
        raise UserError(
            f"{len(both)} case(s) are in {raw / 'imagesUl'} and among the labeled cases, too: {name_some(both, 5)}. A "
            "case may be in one place only: remove or rename one of the two."
        )
    sides = [leakage.sides_of(fold, files) for fold in budgets.folds]
    leakage.refuse_leaks(_unique(leakage.shared_groups(each, budgets.group_of) for each in sides), raw)
    digests = leakage.content_digests(files, dataset_json, num_processes)
    found = [leakage.shared_images(each, digests) for each in sides]
    leakage.refuse_leaks(_unique(shared.leaks for shared in found), raw)
    return _unique(shared.repeats for shared in found)


def _unique(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(text for texts in lists for text in texts))


def refuse_unusable_folder(folder: Path) -> None:
    """Refuse a folder that can never be made, before all images are compared.

    Raises:
        UserError: If a part of its path is a file.
    """
    found = next(path for path in (folder, *folder.parents) if path.exists())
    if not found.is_dir():
        raise UserError(f"{folder} must be a folder, but {found} is a file. Let nnUNet_preprocessed name a folder.")


def targets_of(raw: Path, preprocessed: Path) -> list[Path]:
    """Return the files to write: the folds that training reads, and those of the raw folder if some are there.

    nnU-Net's planner refuses, without a word why, a raw folder whose folds differ from the preprocessed ones.
    """
    from nnunet_semisam.splits.default_splits import SPLITS_FILE

    targets = [preprocessed / SPLITS_FILE]
    if os.path.lexists(raw / SPLITS_FILE):
        targets.append(raw / SPLITS_FILE)
    return targets


def refuse_other_folds(budgets: Budgets, targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace folds that somebody may have trained on.

    Raises:
        UserError: If other folds are there and ``overwrite`` is off.
    """
    from nnunet_semisam.splits.folds import load_splits, same_splits

    if overwrite:
        return
    others = [path for path in targets if os.path.lexists(path) and not same_splits(load_splits(path), budgets.folds)]
    if others:
        raise UserError(
            f"{' and '.join(map(str, others))} holds other folds. Models trained on them would no longer fit: use "
            "--overwrite if there are none worth keeping, or copy the dataset to another id."
        )


def write(budgets: Budgets, preprocessed: Path, targets: Sequence[Path]) -> None:
    """Write the folds, the budgets, and how they were chosen, where nnU-Net's training looks for them.

    Raises:
        UserError: If a file cannot be written; then none is changed.
    """
    from nnunet_semisam.io.json_files import write_json_files
    from nnunet_semisam.splits.label_budgets import BUDGETS_FILE, SPLIT_FILE, budgets_as_json

    contents: dict[Path, Any] = {preprocessed / SPLIT_FILE: asdict(budgets.choice)}
    for target in targets:
        contents[target.with_name(BUDGETS_FILE)] = budgets_as_json(budgets.labeled)
        contents[target] = budgets.folds
    try:
        preprocessed.mkdir(parents=True, exist_ok=True)
        write_json_files(contents)
    except OSError as error:
        raise UserError(
            f"The folds cannot be written to {preprocessed} ({error}); nothing was changed. Fix that and retry."
        ) from error


def report(budgets: Budgets, targets: Sequence[Path], notes: Sequence[str]) -> list[str]:
    """Return the lines that tell a user what was made."""
    lines = [f"{targets[0]}: {len(budgets.folds)} fold(s), no leak found."]
    lines += [f"{path}: the same folds, or nnU-Net's planner would stop." for path in targets[1:]]
    for index, (fold, labeled) in enumerate(zip(budgets.folds, budgets.labeled, strict=True)):
        lines.append(
            f"  fold {index}: {labeled.count} labeled groups ({len(fold['train'])} cases), {len(fold['val'])} "
            f"validation cases, {len(fold.get('unlabeled', []))} hide their labels"
        )
    lines += [note if note.startswith("  ") else f"note: {note}" for note in notes]
    if len(budgets.folds) > 1 and budgets.choice.val:
        lines.append(
            "note: the folds are label budgets and share their validation cases. Give nnUNetv2_find_best_configuration "
            "and nnUNetv2_predict one fold with -f."
        )
    return lines
