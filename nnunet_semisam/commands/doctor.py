"""``nnunet-semisam doctor``: what is set, what is found, what is missing, and how to mend it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from nnunet_semisam.commands._checks import CHECKS, MISSING, NOTE, Finding

HELP = "Say what is set, found and missing, and how to mend it; exit status 1 if something is missing."
EXAMPLE = "nnunet-semisam doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no option."""


def report(findings: Iterable[Finding]) -> str:
    """Return the findings as text, a line each, with a second one that says how to mend it."""
    findings = list(findings)
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"[{finding.level:^7}] {finding.subject:<{width}}  {finding.found}")
        if finding.mend:
            lines.append(f"{'':9} {'':<{width}}  -> {finding.mend}")
    missing, notes = (sum(finding.level == level for finding in findings) for level in (MISSING, NOTE))
    lines.append(f"\n{missing} missing, {notes} to note, {len(findings) - missing - notes} ok")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Print all findings; the exit status is 1 if something that training needs is missing."""
    findings = [finding for check in CHECKS for finding in check()]
    print(report(findings))
    return 1 if any(finding.level == MISSING for finding in findings) else 0
