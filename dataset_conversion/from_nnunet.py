"""Any dataset of nnU-Net or the Medical Segmentation Decathlon, taken apart into labeled and unlabeled cases.

The source is not changed. Cases are kept together by group: frames or visits of one patient are on one side. Which
groups keep their labels follows a seeded shuffle, a file (``--order``), or names; the last groups of the order
validate. imagesTs and imagesUl of the source come along.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.data.splits import default_group
from nnunet_semisam.errors import UserError

from .case import Case, Conversion
from .common import DatasetConverter, add_leave_out, add_val
from .guards import dataset_folder_name
from .nnunet_files import Files, RawDataset, find_raw_dataset, read_raw_dataset
from .roles import Roles, check_left_out, make_folds, name_some, roles_from_order

VAL_SHARE = 5  # one of so many groups validates, unless --val says otherwise


class NNUNetConverter(DatasetConverter):
    """Converts a raw dataset; see the module's text for roles and groups."""

    dataset_name = "Semi"
    default_id = 500
    help = "any nnU-Net or Decathlon dataset, taken apart into labeled and unlabeled cases"
    example = "nnunet-semisam convert nnunet -i Dataset027_ACDC -d 500 --labeled 3 --name ACDC3"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the general options, and those for groups, order and name."""
        super().add_arguments(parser)
        add_val(parser, None)
        parser.add_argument(
            "--group",
            metavar="REGEX",
            help="what cases of one patient have in common: the first group of the expression, or all it matches "
            "(default: everything before _frameNN)",
        )
        parser.add_argument("--seed", type=int, default=12345, help="seed of the order (default: %(default)s)")
        parser.add_argument(
            "--order", type=Path, metavar="FILE", help="one patient or case per line: who is labeled first"
        )
        parser.add_argument("--name", help="name of the new dataset (default: that of the source)")
        add_leave_out(parser)

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for the parsed options."""
        folder = find_raw_dataset(args.input)
        dataset = read_raw_dataset(folder)
        name = new_name(args.name, folder)
        refuse_source_as_target(folder, dataset_folder_name(args.dataset_id, name))
        left_out = check_left_out(args.leave_out, [*dataset.train, *dataset.unlabeled, *dataset.test], folder)
        for files in (dataset.train, dataset.unlabeled, dataset.test):
            for case in left_out:
                files.pop(case, None)
        group_of = grouping(args.group)
        groups = groups_of(dataset.train, group_of)
        order = order_of(groups, args.order, args.seed)
        val = args.val or [str(max(1, len(order) // VAL_SHARE) if len(order) > 1 else 0)]
        roles = roles_from_order(args.labeled, val, order)
        notes = list(roles.notes) + ([f"left out as asked: {', '.join(left_out)}"] if left_out else [])
        cases = make_cases(dataset, roles, groups, group_of, notes)
        splits, budgets = make_folds(roles, groups.__getitem__)
        return Conversion(
            name=name,
            source=folder,
            cases=cases,
            channel_names=dataset.channel_names,
            labels=dataset.labels,
            splits=splits,
            budgets=budgets,
            test_sets={"official": sorted(dataset.test)} if dataset.test else {},
            settings={
                "labeled_patients": roles.labeled,
                "val_patients": roles.val,
                "group": args.group,
                "left_out": left_out,
            },
            notes=notes,
            findings=dataset.findings,
            can_leave_out=True,
            more_json=dataset.more_json,
            file_ending=dataset.file_ending,
        )


def make_cases(
    dataset: RawDataset,
    roles: Roles,
    groups: Mapping[str, Sequence[str]],
    group_of: Callable[[str], str],
    notes: list[str],
) -> list[Case]:
    """Return the cases of all parts.

    Args:
        dataset: The files.
        roles: Which group keeps labels, trains and validates.
        groups: Group -> cases with a label.
        group_of: Returns the group of a case.
        notes: What is left out, and test patients that also train, are added here.
    """

    def case(name: str, files: Files, part: str) -> Case:
        return Case(name, files[0], None if part == "Ul" else files[1], part)

    hidden = [group for group in roles.train if group not in roles.with_labels]
    kept = {*roles.val, *map(group_of, dataset.test)}
    leaking = [name for name in dataset.unlabeled if group_of(name) in kept]
    if dataset.bare:
        notes.append(
            f"{len(dataset.bare)} cases of imagesTr have no label and go to imagesUl: {name_some(dataset.bare)}"
        )
    if leaking:
        notes.append(f"left out of imagesUl, their patients validate or test: {name_some(leaking)}")
    if shared := sorted(name for name in dataset.test if group_of(name) in {*roles.train, *roles.val}):
        notes.append(f"test cases of patients that are also in imagesTr of the source: {name_some(shared)}")
    return [
        *(case(name, dataset.train[name], "Tr") for group in roles.with_labels for name in groups[group]),
        *(case(name, dataset.train[name], "Ul") for group in hidden for name in groups[group]),
        *(case(name, files, "Ul") for name, files in dataset.unlabeled.items() if name not in leaking),
        *(case(name, files, "Ts") for name, files in dataset.test.items()),
    ]


def grouping(expression: str | None) -> Callable[[str], str]:
    """Return the function from case to group.

    Raises:
        UserError: If the expression is malformed. The function raises it for a case that does not match.
    """
    if expression is None:
        return default_group
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f"--group {expression} is no regular expression ({error}). Correct it.") from error

    def group_of(case: str) -> str:
        match = pattern.search(case)
        group = match and (match[1] if pattern.groups else match[0])
        if not group:
            raise UserError(
                f"--group {expression} finds nothing in the case {case}. Every case must have a group: correct the "
                "expression, for example ^([^_]+) for what stands before the first underscore."
            )
        return group

    return group_of


def groups_of(cases: Mapping[str, Files], group_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Return group -> its cases, both sorted."""
    groups: dict[str, list[str]] = {}
    for case in sorted(cases):
        groups.setdefault(group_of(case), []).append(case)
    return dict(sorted(groups.items()))


def order_of(groups: Mapping[str, Sequence[str]], file: Path | None, seed: int) -> list[str]:
    """Return the groups in the order in which labels are given out: those of the file, then a seeded shuffle.

    Raises:
        UserError: If the file cannot be read, or names something unknown or twice.
    """
    rest = sorted(groups)
    random.Random(seed).shuffle(rest)
    if file is None:
        return rest
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--order {file} cannot be read ({error}). Give a text file with a name per line.") from error
    group_of_case = {case: group for group, cases in groups.items() for case in cases}
    if unknown := [line for line in lines if line not in groups and line not in group_of_case]:
        raise UserError(
            f"--order {file} names {name_some(unknown, 5)}: not among the {len(groups)} patients "
            f"({name_some(sorted(groups), 5)}). Correct the names."
        )
    named = list(dict.fromkeys(line if line in groups else group_of_case[line] for line in lines))
    if len(set(lines)) < len(lines):
        raise UserError(f"--order {file} names something twice. Name each patient or case once.")
    return [*named, *(group for group in rest if group not in named)]


def new_name(name: str | None, folder: Path) -> str:
    """Return the name of the new dataset, by default that of the source without nnU-Net's or the Decathlon's number.

    Raises:
        UserError: If it holds other than letters, digits, ``_`` and ``-``.
    """
    name = name or re.sub(r"^(Dataset\d{3}|Task\d{2,3})_", "", folder.resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"The name {name!r} must hold letters, digits, _ and - only. Give another with --name.")
    return name


def refuse_source_as_target(folder: Path, target: str) -> None:
    """Refuse to write a dataset over its source.

    Raises:
        UserError: If the new folder would have the name and place of the source.
    """
    raw = os.environ.get("nnUNet_raw")
    if raw and (Path(raw) / target).resolve() == folder.resolve():
        raise UserError(f"{folder} is the source itself. Choose another id with -d, or another name with --name.")


if __name__ == "__main__":
    from nnunet_semisam.commands.convert import run_script

    sys.exit(run_script(NNUNetConverter()))
