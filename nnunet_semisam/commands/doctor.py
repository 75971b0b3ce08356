"""``nnunet-semisam doctor``: what is set, what is found, what is missing, and how to fix it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable

from nnunet_semisam.commands._checks import CHECKS, Finding, Level

HELP = "Say what is set, found and missing, and how to fix it; exit status 1 if something is missing."
EXAMPLE = "nnunet-semisam doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no option."""


def report(findings: Iterable[Finding]) -> str:
    """Return the findings as text, a line each, with a second one that says how to fix it."""
    findings = list(findings)
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"[{finding.level.value:^7}] {finding.subject:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"{'':9} {'':<{width}}  -> {finding.fix}")
    counts = Counter(finding.level for finding in findings)
    lines.append(f"\n{counts[Level.MISSING]} missing, {counts[Level.NOTE]} to note, {counts[Level.OK]} ok")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Print all findings; the exit status is 1 if something that training needs is missing."""
    findings = [finding for check in CHECKS for finding in check()]
    print(report(findings))
    return 1 if any(finding.level == Level.MISSING for finding in findings) else 0
