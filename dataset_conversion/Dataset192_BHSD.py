"""BHSD (intracranial hemorrhage in head CT): 192 labeled and 1,980 unlabeled volumes, five classes.

Layout: ``label_192/{images,ground truths}/ID_*_ID_*.nii.gz`` (some copies lack the suffix), ``unlabel_1980/`` and
``dataset.json`` with the official 96 training and 96 test cases and the names of the labels. The labeled patients are
the first of the training list, the validation patients its last; the official test cases go to imagesTs. Unlabeled are
the rest of the training list and unlabel_1980, without patients that are validated or tested on. Patients are counted,
not cases: one of the training list has two studies.

Intensities are not documented; they are Hounsfield units in some copies and windowed to 0..255 in others. The channel
is called ``CT`` for the former (nnU-Net's CT normalisation) and ``windowed_CT`` for the latter (z-score).

Source:
    Wu et al., MLMI 2023, https://arxiv.org/abs/2308.11298; data: https://huggingface.co/datasets/WuBiao/BHSD; what
    users found in the files: https://github.com/White65534/BHSD/issues (5 suffix, 10 affines, 1 slices, 9 no labels).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.splits.case_assignment import CaseAssignment, assignment_from_order, make_folds
from nnunet_semisam.splits.label_budgets import Grouping, group_function

from .command_line import run_script
from .converter import DatasetConverter, add_leave_out, add_val
from .reading.bhsd_files import PATIENT, Download, Official, find_download, read_official
from .reading.bhsd_intensities import CHANNELS, detect_intensities, review
from .reading.case import Case, Conversion
from .reading.listed_cases import check_left_out, missing_notes
from .reading.nifti_files import Oddity, label_source_of, source_of, summarise

patient_of = group_function(PATIENT)


class BHSDConverter(DatasetConverter):
    """Converts BHSD; see the module's text for layout, case assignment and sources."""

    dataset_name = "BHSD"
    default_id = 192
    help = "BHSD, hemorrhage in head CT (the folder that holds label_192/, unlabel_1980/ and dataset.json)"
    example = "nnunet-semisam convert bhsd -i BHSD -d 192 --labeled 10"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the general options, ``--val``, ``--unlabeled``, ``--intensities`` and ``--leave-out``."""
        super().add_arguments(parser)
        add_val(parser, "10")
        parser.add_argument(
            "--unlabeled",
            type=int,
            metavar="N",
            help="how many cases of unlabel_1980 to use, in the order of their names (default: all)",
        )
        parser.add_argument(
            "--intensities",
            choices=("auto", *CHANNELS),
            default="auto",
            help="Hounsfield units or windowed to 0..255 (default: look at the labeled images)",
        )
        add_leave_out(parser)

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for the parsed options."""
        download = find_download(args.input)
        official = read_official(download, args.input)
        known = [*official.train, *official.test, *download.unlabeled]
        left_out = check_left_out(args.leave_out, known, args.input)
        here = [case for case in download.images if case not in left_out]
        members = patients_of([case for case in official.train if case not in left_out], here)
        missing = [patient for patient, cases in members.items() if not cases]
        assignment = assignment_from_order(args.labeled, args.val, list(members), missing, members)
        test = [case for case in official.test if case in here]
        notes = [*assignment.notes, *missing_notes(official.train, official.test, here, left_out)]
        notes += labels_without_image(download)
        kept = [*assignment.val, *(patient_of(case) for case in test)]
        pool = more_unlabeled(download, official, kept, left_out, args.unlabeled, notes)
        findings = [*download.findings, *shared_patients(assignment, members, test)]
        cases = make_cases(download, assignment, members, test, pool, notes, findings)
        intensities, text = detect_intensities(args.intensities, cases)
        splits, budgets = make_folds(assignment, members.__getitem__)
        notes.append(text)
        return Conversion(
            name=self.dataset_name,
            source=args.input,
            cases=cases,
            channel_names={"0": CHANNELS[intensities]},
            labels=official.labels,
            splits=splits,
            budgets=budgets,
            grouping=Grouping(PATIENT, assignment.order, assignment.val),
            test_sets={"official": sorted(test)} if test else {},
            settings={
                "labeled_patients": assignment.labeled,
                "val_patients": assignment.val,
                "intensities": intensities,
                "left_out": left_out,
            },
            notes=notes,
            findings=findings,
            review=partial(review, intensities),
            can_leave_out=True,
        )


def labels_without_image(download: Download) -> list[str]:
    """Return a note about labels of label_192 whose image is not there; or none."""
    alone = sorted(download.labels.keys() - download.images.keys())
    if not alone:
        return []
    return [f"{len(alone)} labels of 'ground truths' have no image and are not used: {name_some(alone, 5)}"]


def patients_of(listed: Sequence[str], here: Sequence[str]) -> dict[str, list[str]]:
    """Return patient -> those of the listed cases that are there, both in the order of the list."""
    members: dict[str, list[str]] = {}
    for case in listed:
        cases = members.setdefault(patient_of(case), [])
        if case in here:
            cases.append(case)
    return members


def make_cases(
    download: Download,
    assignment: CaseAssignment,
    members: Mapping[str, Sequence[str]],
    test: Sequence[str],
    pool: Sequence[str],
    notes: list[str],
    findings: list[str],
) -> list[Case]:
    """Return the cases of all parts.

    Args:
        download: The files.
        assignment: Which patient keeps labels, trains and validates.
        members: Patient -> cases of the training list that are there.
        test: Official test cases that are there.
        pool: Cases of unlabel_1980 to use.
        notes: What is odd about a file's name or header is added here.
        findings: Labels that are needed and missing are added here.
    """
    odd: dict[str, list[Oddity]] = {}

    cases: list[Case] = []

    def add_labeled(case: str, part: str) -> None:
        if case not in download.labels:
            findings.append(f"{download.images[case]}: has no label in 'ground truths'. Add it, or --leave-out {case}.")
            return
        image, odd[case] = source_of(download.images[case])
        label, odd[f"{case} (label)"] = label_source_of(download.labels[case], download.images[case])
        cases.append(Case(case, (image,), label, part))

    def add_unlabeled(case: str, path: Path) -> None:
        image, odd[case] = source_of(path)
        cases.append(Case(case, (image,), None, "Ul"))

    for patient in assignment.with_labels:
        for case in members[patient]:
            add_labeled(case, "Tr")
    for case in test:
        add_labeled(case, "Ts")
    for patient in assignment.unlabeled:
        for case in members[patient]:
            add_unlabeled(case, download.images[case])
    for case in pool:
        add_unlabeled(case, download.unlabeled[case])
    notes += summarise(odd)
    return cases


def more_unlabeled(
    download: Download,
    official: Official,
    kept: Sequence[str],
    left_out: Sequence[str],
    count: int | None,
    notes: list[str],
) -> list[str]:
    """Return the cases of unlabel_1980 that may be trained on.

    Args:
        download: The files.
        official: Cases of label_192 are not taken twice.
        kept: Patients that validate or test; they must not be trained on.
        left_out: Cases of ``--leave-out``.
        count: ``--unlabeled``; ``None`` takes all.
        notes: What is not used, and why, is added here.

    Raises:
        UserError: If the number is negative, or the cases are still packed.
    """
    if count is not None and count < 0:
        raise UserError(f"--unlabeled {count}: must be 0 or a positive number. Leave it out to take all.")
    if download.packed is not None and count != 0:
        raise UserError(
            f"There is no folder unlabel_1980, but {download.packed} is there. Unpack it, or go without its cases: "
            "--unlabeled 0"
        )
    if not download.unlabeled:
        notes.append("there is no folder unlabel_1980: unlabeled are the rest of the 96 training cases only")
    of_label_192 = {*official.train, *official.test}
    leaking = [case for case in download.unlabeled if case in of_label_192 or patient_of(case) in kept]
    if leaking:
        notes.append(f"left out of unlabel_1980, patients of label_192 that validate or test: {name_some(leaking)}")
    usable = [case for case in sorted(download.unlabeled) if case not in {*leaking, *left_out}]
    return usable[:count]


def shared_patients(assignment: CaseAssignment, members: Mapping[str, Sequence[str]], test: Sequence[str]) -> list[str]:
    """Return a finding for patients that are on both sides of the official split."""
    tested = {patient_of(case) for case in test}
    shared = []
    for patient in [*assignment.train, *assignment.val]:
        if patient in tested:
            shared += members[patient]
    if not shared:
        return []
    return [
        f"dataset.json: {len(shared)} training cases are of patients that also test: {', '.join(shared)}. Go on "
        f"without them: --leave-out {' '.join(shared)}"
    ]


if __name__ == "__main__":
    sys.exit(run_script(BHSDConverter()))
