"""Any dataset of nnU-Net or the Medical Segmentation Decathlon, taken apart into labeled and unlabeled cases.

The source is not changed. Cases are kept together by group: frames or visits of one patient are on one side. Which
groups keep their labels follows a seeded shuffle, a file (``--order``), or names; the last groups of the order test
(``--test``), those before them validate. imagesTs and imagesUl of the source come along.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.splits.case_assignment import CaseAssignment, assignment_from_order, last_groups, make_folds
from nnunet_semisam.splits.group_selection import as_name
from nnunet_semisam.splits.label_budgets import (
    SEED,
    Grouping,
    group_function,
    labeling_order,
    members_of,
    read_grouping,
)

from .command_line import run_script
from .converter import DatasetConverter, add_leave_out, add_val
from .reading.case import Case, Conversion
from .reading.nnunet_files import find_raw_dataset, read_raw_dataset
from .reading.raw_dataset import CaseFiles, RawDataset
from .writing.guards import dataset_folder_name


class NNUNetConverter(DatasetConverter):
    """Converts a raw dataset; see the module's text for case assignment and groups."""

    dataset_name = "Semi"
    default_id = 500
    help = "any nnU-Net or Decathlon dataset, taken apart into labeled and unlabeled cases"
    example = "nnunet-semisam convert nnunet -i Dataset027_ACDC -d 500 --labeled 3 --name ACDC3"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the general options, and those for groups, order and name."""
        super().add_arguments(parser)
        add_val(parser, None)
        parser.add_argument(
            "--test",
            nargs="+",
            default=[],
            metavar="N",
            help="groups to test on, with their labels: a number (the last ones of the order) or names (default: none)",
        )
        parser.add_argument(
            "--group",
            metavar="REGEX",
            help="what cases of one patient have in common: the first group of the expression, or all it matches "
            "(default: what the source's converter wrote, or everything before _frameNN)",
        )
        parser.add_argument(
            "--seed", type=int, help=f"seed of the order (default: the order of the source's converter, or {SEED})"
        )
        parser.add_argument(
            "--order", type=Path, metavar="FILE", help="one patient or case per line: who is labeled first"
        )
        parser.add_argument("--name", help="name of the new dataset (default: that of the source)")
        add_leave_out(parser)

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for the parsed options."""
        folder = find_raw_dataset(args.input)
        name = new_name(args.name, folder)
        refuse_source_as_target(folder, dataset_folder_name(args.dataset_id, name))
        dataset = read_raw_dataset(folder)
        left_out = dataset.leave_out(args.leave_out)
        if not dataset.train:
            raise UserError(f"--leave-out leaves no case of {folder} with a label. Name fewer cases.")
        written = read_grouping(folder)
        pattern = written.pattern if args.group is None else args.group
        group_of = group_function(pattern)
        groups = members_of(dataset.train, group_of)
        try:
            assignment = choose_assignment(args, written, groups)
        except UserError as error:
            if not dataset.findings:
                raise
            raise UserError(
                f"{error} Files have faults, too, maybe for this reason: {dataset.findings[0].with_remedy}"
            ) from error
        notes = [*dataset.notes, *assignment.notes]
        if left_out:
            notes.append(f"left out as asked: {', '.join(left_out)}")
        cases = make_cases(dataset, assignment, groups, group_of, notes)
        splits, budgets = make_folds(assignment, groups.__getitem__)
        held_out = [case for group in assignment.test for case in groups[group]]
        findings = [finding.with_remedy for finding in dataset.findings]
        findings += shared_patients(dataset, assignment, group_of)
        return Conversion(
            name=name,
            source=folder,
            cases=cases,
            channel_names=dataset.channel_names,
            labels=dataset.labels,
            splits=splits,
            budgets=budgets,
            grouping=Grouping(pattern, assignment.order, assignment.val),
            test_sets=name_test_sets(dataset, held_out),
            settings={
                "labeled_patients": assignment.labeled,
                "val_patients": assignment.val,
                "test_patients": assignment.test,
                "group": pattern,
                "left_out": left_out,
            },
            notes=notes,
            findings=findings,
            headers_may_differ=True,
            can_leave_out=True,
            more_json=dataset.more_json,
            file_ending=dataset.file_ending,
        )


def choose_assignment(
    args: argparse.Namespace, written: Grouping, groups: Mapping[str, Sequence[str]]
) -> CaseAssignment:
    """Return which group is labeled, validates, and tests.

    Args:
        args: ``labeled``, ``val``, ``test``, ``group``, ``seed`` and ``order``.
        written: What the converter of the source wrote, if there was one.
        groups: Group -> cases with a label.

    Raises:
        UserError: If the options do not fit the groups.
    """
    order, val = labeling_order(written, groups, args.group, args.seed, args.order)
    test = last_groups("--test", args.test, order, groups)
    rest = [group for group in order if group not in test]
    val_words = args.val or [as_name(group) for group in val or [] if group not in test] or None
    return replace(assignment_from_order(args.labeled, val_words, rest, members=groups), test=test)


def name_test_sets(dataset: RawDataset, held_out: Sequence[str]) -> dict[str, list[str]]:
    """Return the cases of each test set; images without labels judge nothing and are none where others do."""
    has_labels = any(files.label is not None for files in dataset.test.values())
    test_sets = {}
    if dataset.test and (has_labels or not held_out):
        test_sets["official"] = sorted(dataset.test)
    if held_out:
        test_sets["held_out"] = sorted(held_out)
    return test_sets


def shared_patients(dataset: RawDataset, assignment: CaseAssignment, group_of: Callable[[str], str]) -> list[str]:
    """Return a finding for the test cases of the source whose patients also train or validate."""
    used = {*assignment.train, *assignment.val}
    shared = sorted(name for name in dataset.test if group_of(name) in used)
    if not shared:
        return []
    return [
        f"{dataset.folder / 'imagesTs'}: {len(shared)} test cases are of patients that also train or validate: "
        f"{', '.join(shared)}. Say with --group how cases belong together, or go on without them: --leave-out "
        f"{shlex.join(shared)}"
    ]


def make_cases(
    dataset: RawDataset,
    assignment: CaseAssignment,
    groups: Mapping[str, Sequence[str]],
    group_of: Callable[[str], str],
    notes: list[str],
) -> list[Case]:
    """Return the cases of all parts.

    Args:
        dataset: The files.
        assignment: Which group keeps labels, trains and validates.
        groups: Group -> cases with a label.
        group_of: Returns the group of a case.
        notes: What is left out is added here.
    """
    validating = assignment.val or assignment.with_labels  # without chosen patients each labeled one validates once
    kept = {*validating, *assignment.test, *(group_of(name) for name in dataset.test)}
    leaking = [name for name in dataset.unlabeled if group_of(name) in kept]
    if dataset.bare:
        notes.append(
            f"{len(dataset.bare)} cases of imagesTr have no label and go to imagesUl: {name_some(dataset.bare)}"
        )
    if leaking:
        notes.append(f"left out of imagesUl, their patients validate or test: {name_some(leaking)}")
    cases: list[Case] = []
    for group in assignment.with_labels:
        cases += [_labeled(name, dataset.train[name], "Tr") for name in groups[group]]
    for group in assignment.unlabeled:
        cases += [_unlabeled(name, dataset.train[name]) for name in groups[group]]
    cases += [_unlabeled(name, files) for name, files in dataset.unlabeled.items() if name not in leaking]
    for group in assignment.test:
        cases += [_labeled(name, dataset.train[name], "Ts") for name in groups[group]]
    cases += [_labeled(name, files, "Ts") for name, files in dataset.test.items()]
    return cases


def _labeled(name: str, files: CaseFiles, part: str) -> Case:
    return Case(name, files.images, files.label, part)


def _unlabeled(name: str, files: CaseFiles) -> Case:
    return Case(name, files.images, None, "Ul")


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
    sys.exit(run_script(NNUNetConverter()))
