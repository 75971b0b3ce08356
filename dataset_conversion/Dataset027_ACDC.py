"""ACDC (cardiac cine MRI, end-diastole and end-systole) from the official download.

Layout: ``{training,testing}/patientXXX/{Info.cfg,patientXXX_frameYY.nii.gz,patientXXX_frameYY_gt.nii.gz}``; ``_4d``
files are not used. A case is a frame; everything is split by patient. Labels: 1 right ventricle (RV), 2 myocardium
(MYO), 3 left ventricle cavity (LV). nnU-Net's own converter calls the same values RV, MLV and LVC. The channel name
``cineMRI`` is none of nnU-Net's special names, so images are normalised by z-score.

Source:
    Bernard et al., IEEE TMI 2018, https://doi.org/10.1109/TMI.2018.2837502; order of labels and split of
    ``--split ssl4mis``: the lists of https://github.com/HiLab-git/SSL4MIS, whose patients are all from ``training``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script: make the relative imports below work
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "dataset_conversion"

from nnunet_semisam.splits.case_assignment import CaseAssignment, make_folds
from nnunet_semisam.splits.folds import default_group
from nnunet_semisam.splits.label_budgets import Grouping

from .command_line import run_script
from .converter import DatasetConverter, add_leave_out
from .reading.acdc_files import (
    Patient,
    check_patient,
    find_source,
    missing_labels,
    read_patients,
    unused_names,
)
from .reading.acdc_splits import assign_5fold, assign_ssl4mis
from .reading.case import Case, Conversion
from .reading.listed_cases import check_left_out


class AcdcConverter(DatasetConverter):
    """Converts ACDC; see the module's text for layout, labels and sources."""

    dataset_name = "ACDC"
    default_id = 27
    help = "ACDC, cardiac cine MRI (the folder that holds training/ and testing/)"
    example = "nnunet-semisam convert acdc -i database -d 27 --labeled 3"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the general options, ``--split``, ``--seed`` and ``--leave-out``."""
        super().add_arguments(parser)
        parser.add_argument(
            "--split",
            choices=("ssl4mis", "5fold"),
            default="ssl4mis",
            help="ssl4mis: the field's 70 training, 10 validation, 20 test patients, labels in its published order; "
            "5fold: cross-validation by patient among the labeled ones, chosen by --seed (default: %(default)s)",
        )
        parser.add_argument("--seed", type=int, default=12345, help="seed of --split 5fold (default: %(default)s)")
        add_leave_out(parser)

    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return the cases, folds and notes for ``args.input``, ``labeled``, ``split`` and ``seed``."""
        source = find_source(args.input)
        findings: list[str] = []
        patients = read_patients(source / "training")
        official = read_patients(source / "testing") if (source / "testing").is_dir() else {}
        notes = unused_names(source / "training", patients)
        notes += unused_names(source / "testing", official) if official else []
        to_leave_out = [default_group(case) for case in args.leave_out]
        left_out = check_left_out(to_leave_out, [*patients, *official], source)
        for name in left_out:
            patients.pop(name, None)
            official.pop(name, None)
        if args.split == "ssl4mis":
            assignment = assign_ssl4mis(args.labeled, patients)
        else:
            assignment = assign_5fold(args.labeled, patients, args.seed)
        for name in (*assignment.train, *assignment.val, *assignment.test):
            findings += check_patient(patients[name])
        for patient in official.values():
            findings += check_patient(patient)
        cases = training_cases(assignment, patients, findings) + test_cases(assignment, patients, official, findings)
        splits, budgets = make_folds(assignment, lambda name: patients[name].identifiers())
        settings = {"split": args.split, "labeled_patients": assignment.labeled}
        if args.split == "5fold":
            settings["seed"] = args.seed
        notes = [*assignment.notes, *notes]
        if left_out:
            settings["left_out"] = left_out
            notes.append(f"left out as asked: {', '.join(left_out)}")
        return Conversion(
            name=self.dataset_name,
            source=source,
            cases=cases,
            channel_names={"0": "cineMRI"},
            labels={"background": 0, "RV": 1, "MYO": 2, "LV": 3},
            splits=splits,
            budgets=budgets,
            grouping=Grouping(None, assignment.order, assignment.val),
            test_sets=name_test_sets(assignment, patients, official),
            settings=settings,
            notes=notes,
            findings=findings,
            can_leave_out=True,
        )


def training_cases(assignment: CaseAssignment, patients: Mapping[str, Patient], findings: list[str]) -> list[Case]:
    """Return the cases of imagesTr and imagesUl.

    With one budget, only labeled and validation patients keep their labels. With several, all do, and the folds'
    ``"unlabeled"`` lists hide them.

    Args:
        assignment: Which group is labeled, unlabeled, for validation or for testing.
        patients: All patients of ``training``.
        findings: Labels that are needed and missing are added here.
    """
    cases: list[Case] = []
    for name in assignment.with_labels:
        findings += missing_labels(patients[name])
        cases += patients[name].cases("Tr", with_labels=True)
    for name in assignment.unlabeled:
        cases += patients[name].cases("Ul", with_labels=False)
    return cases


def test_cases(
    assignment: CaseAssignment, patients: Mapping[str, Patient], official: Mapping[str, Patient], findings: list[str]
) -> list[Case]:
    """Return the cases of imagesTs: the split's own test patients, and all of the official ``testing`` folder.

    Official test patients may come without labels, as they did for years, but not with half of them.

    Args:
        assignment: Which group is labeled, unlabeled, for validation or for testing.
        patients: All patients of ``training``.
        official: All patients of ``testing``.
        findings: Labels that are needed and missing are added here.
    """
    labeled = [patients[name] for name in assignment.test]
    labeled += [patient for patient in official.values() if patient.labels]
    cases: list[Case] = []
    for patient in labeled:
        findings += missing_labels(patient)
        cases += patient.cases("Ts", with_labels=True)
    for patient in official.values():
        if not patient.labels:
            cases += patient.cases("Ts", with_labels=False)
    return cases


def name_test_sets(
    assignment: CaseAssignment, patients: Mapping[str, Patient], official: Mapping[str, Patient]
) -> dict[str, list[str]]:
    """Return the cases of each test set in imagesTs: published numbers are for one of them, never for both."""
    test_sets = {}
    if assignment.test:
        test_sets["ssl4mis"] = _cases_of([patients[name] for name in assignment.test])
    if official:
        test_sets["official"] = _cases_of(list(official.values()))
    return test_sets


def _cases_of(patients: Sequence[Patient]) -> list[str]:
    return sorted(case for patient in patients for case in patient.identifiers())


if __name__ == "__main__":
    sys.exit(run_script(AcdcConverter()))
