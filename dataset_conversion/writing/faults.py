"""What is wrong before a voxel is read: the names of cases, labels and channels, and what files and headers are.

Names become parts of paths here, whoever wrote them: this is the one place that every converter's names pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.names import case_problem, check_distinct, text_problem

from ..reading.case import Case, Conversion, Source
from .parallel import in_threads


@dataclass
class Faults:
    """What was found.

    Attributes:
        findings: Sentences, each with a remedy.
        cases: Cases with a fault, which may be left out.
        unreadable: Files that must not be opened again.
    """

    findings: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    unreadable: set[Path] = field(default_factory=set)


def find_faults(conversion: Conversion, workers: int) -> Faults:
    """Look at names and headers of everything that will be written; every fault is found, not only the first.

    Args:
        conversion: What is planned.
        workers: How many headers are read at the same time.
    """
    faults = Faults([*conversion.findings, *_names(conversion), *_repeated_identifiers(conversion)])
    for case in conversion.cases:
        problem = case_problem(case.identifier)
        if problem is not None:
            faults.cases.append(case.identifier)
            faults.findings.append(
                f"{case.images[0].path}: {shown(case.identifier)} cannot be the name of a case: {problem}. Rename it: "
                "its files, or its entry where dataset.json or another list names it."
            )
    _find_faulty_files(conversion, workers, faults)
    return faults


def _names(conversion: Conversion) -> list[str]:
    findings = []
    for kind, names in (
        ("label", list(conversion.labels)),
        ("channel", [*conversion.channel_names, *conversion.channel_names.values()]),
        ("dataset", [conversion.name]),
    ):
        for name in names:
            problem = text_problem(name) if kind != "dataset" else case_problem(name)
            if problem is not None:
                findings.append(
                    f"{conversion.source}: {shown(name)} cannot be the name of a {kind}: {problem}. Rename it."
                )
    identifiers = {case.identifier for case in conversion.cases}
    try:
        check_distinct(sorted(identifiers), str(conversion.source), "Rename one of each.")
    except UserError as error:
        findings.append(str(error))
    return findings


def _repeated_identifiers(conversion: Conversion) -> list[str]:
    """Return a finding for every case identifier that comes twice, for example a patient in training and testing."""
    first: dict[str, Case] = {}
    findings = []
    for case in conversion.cases:
        other = first.setdefault(case.identifier, case)
        if other is not case:
            findings.append(
                f"{case.images[0].path}: is the same case as {other.images[0].path}. Remove or rename one of them."
            )
    return findings


def _find_faulty_files(conversion: Conversion, workers: int, faults: Faults) -> None:
    users: dict[tuple[Path, Callable[[Path], None] | None], list[str]] = {}
    for case in conversion.cases:
        for source in case.sources:
            users.setdefault((source.path, source.header), []).append(case.identifier)
    problems = in_threads(_problem, users, workers, "reading headers")
    for (path, _), problem in zip(users, problems, strict=True):
        if problem is not None:
            faults.unreadable.add(path)
            if not any(finding.startswith(str(path)) for finding in faults.findings):
                faults.findings.append(problem)
    bad = {case for (path, _), cases in users.items() if path in faults.unreadable for case in cases}
    faults.cases += _in_order(bad, conversion.cases)


def _problem(file: tuple[Path, Callable[[Path], None] | None]) -> str | None:
    path, header = file
    try:
        Source(path, header=header).check()
    except UserError as error:
        return str(error)
    return None


def _in_order(names: set[str], cases: Iterable[Case]) -> list[str]:
    return [case.identifier for case in cases if case.identifier in names]
