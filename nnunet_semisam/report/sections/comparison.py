"""What a difference to the baseline allows to be said, and which runs it rests on.

A verdict needs two things that agree: the bootstrap interval leaves 0 out, and the Wilcoxon test is below 0.05. The
interval alone is too narrow with few patients: two that differ the same way always exclude 0. The test alone looks at
ranks, not at the mean that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_semisam.benchmark.metrics import HIGHER_IS_BETTER

BETTER, WORSE = "better", "worse"
OPEN, TOO_FEW = "no difference can be claimed", "too few patients for a verdict"
ALPHA = 0.05
FEWEST_GROUPS = 6  # n patients who all agree have p = 2 / 2**n, which is below 0.05 from 6 on


def verdict(difference: Mapping[str, Any] | None, metric: str = "dice") -> str:
    """Return ``BETTER``, ``WORSE``, ``OPEN`` or ``TOO_FEW``; empty where nothing was compared."""
    if difference is None or difference["mean"] is None:
        return ""
    if difference["groups"] < FEWEST_GROUPS:
        return TOO_FEW
    claimed = (difference["low"] > 0 or difference["high"] < 0) and difference["p"] < ALPHA
    if not claimed:
        return OPEN
    return BETTER if (difference["low"] > 0) == HIGHER_IS_BETTER[metric] else WORSE


def least_p(groups: int) -> float:
    """Return the smallest p value that the Wilcoxon test can give so many patients."""
    return 2.0 ** (1 - groups)


def unmatched(cell: Mapping[str, Any], base: Mapping[str, Any] | None) -> bool:
    """Return whether the means of a trainer and of the baseline rest on other runs than their difference."""
    difference = cell["difference"]
    if difference is None or base is None:
        return False
    return difference["pairs"] < max(cell["runs"], base["runs"])
