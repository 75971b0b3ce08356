"""Which ACDC patients train, validate and test: the field's split, or a cross-validation."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.splits.case_assignment import CaseAssignment, choose_labeled

from .acdc_files import Patient


def _patients(numbers: str) -> tuple[str, ...]:
    return tuple(f"patient{number}" for number in numbers.split())


# SSL4MIS gives labels in this order: 1 labeled patient is the first, 3 are the first three, and so on.
SSL4MIS_TRAIN = _patients(
    "099 038 050 100 058 021 049 020 072 040 060 089 004 056 098 096 031 018 094 047 048 055 097 074 043 041 063 037 "
    "095 054 026 088 032 069 006 071 012 073 061 017 025 010 057 029 051 005 036 046 062 034 076 092 070 077 067 003 "
    "091 016 014 044 042 090 053 027 035 086 023 009 079 015"
)
SSL4MIS_VAL = _patients("028 085 082 087 019 030 078 045 002 039")
SSL4MIS_TEST = _patients("011 013 084 033 093 022 068 024 083 081 080 001 007 066 008 065 075 064 059 052")


def assign_ssl4mis(tokens: Sequence[str], patients: Mapping[str, Patient]) -> CaseAssignment:
    """Assign the patients as SSL4MIS does: 70 to training, 10 to validation, 20 to testing.

    Args:
        tokens: ``--labeled``.
        patients: The patients of ``training`` that are there.

    Raises:
        UserError: If a labeled patient is missing, or all validation patients are.
    """
    train, val, test = (
        [name for name in names if name in patients] for names in (SSL4MIS_TRAIN, SSL4MIS_VAL, SSL4MIS_TEST)
    )
    labeled = choose_labeled(tokens, SSL4MIS_TRAIN, missing=set(SSL4MIS_TRAIN) - set(train))
    if not val:
        raise UserError(
            f"None of the validation patients of --split ssl4mis is there: {', '.join(SSL4MIS_VAL)}. Add some, or use "
            "--split 5fold."
        )
    notes = [
        *_missing_note("training", SSL4MIS_TRAIN, train),
        *_missing_note("validation", SSL4MIS_VAL, val),
        *_missing_note("test", SSL4MIS_TEST, test),
    ]
    extra = sorted(set(patients) - {*SSL4MIS_TRAIN, *SSL4MIS_VAL, *SSL4MIS_TEST})
    if extra:
        notes.append(f"not in the lists of ssl4mis and left out: {name_some(extra, 5)}")
    return CaseAssignment(labeled, train, val, test, notes)


def assign_5fold(tokens: Sequence[str], patients: Mapping[str, Patient], seed: int) -> CaseAssignment:
    """Let all patients of ``training`` train; the labeled ones are cut into folds later.

    Labels are given out in :func:`seeded_order`, so the labeled patients of a small number are among those of a larger.

    Args:
        tokens: ``--labeled``: one number, names, or ``all``.
        patients: The patients of ``training`` that are there.
        seed: Seed of the order.

    Raises:
        UserError: If there are several budgets: every fold would need validation patients of its own for each.
    """
    labeled = choose_labeled(tokens, seeded_order(patients, seed))
    if len(labeled) > 1:
        raise UserError(
            f"--split 5fold takes one number, got --labeled {' '.join(tokens)}. Its folds differ in their validation "
            "patients, so budgets would not compare. Use --split ssl4mis, or one dataset id per number."
        )
    notes = []
    if len(labeled[0]) == 1:
        notes.append(
            f"the only labeled patient, {labeled[0][0]}, validates on itself: its Dice says nothing about others"
        )
    return CaseAssignment(labeled, list(patients), [], [], notes)


def seeded_order(patients: Mapping[str, Patient], seed: int) -> list[str]:
    """Shuffle patients, taking turns between the diagnoses (``Group`` in ``Info.cfg``) where all have one.

    So the first five patients show all five diagnoses. Where an ``Info.cfg`` lacks its ``Group``, it is one shuffle.
    """
    generator = random.Random(seed)
    complete = all(patient.info.get("Group") for patient in patients.values())
    by_group: dict[str, list[str]] = {}
    for name in sorted(patients):
        by_group.setdefault(patients[name].info["Group"] if complete else "", []).append(name)
    groups = [by_group[key] for key in sorted(by_group)]
    for group in groups:
        generator.shuffle(group)
    generator.shuffle(groups)
    return [name for turn in zip_longest(*groups) for name in turn if name is not None]


def _missing_note(kind: str, listed: Sequence[str], present: Sequence[str]) -> list[str]:
    absent = [name for name in listed if name not in present]
    if not absent:
        return []
    return [f"{len(absent)} of the {len(listed)} {kind} patients of ssl4mis are not there: {name_some(absent, 5)}"]
