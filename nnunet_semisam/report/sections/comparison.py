"""What a difference to the baseline allows to be said, and which runs it rests on.

A verdict needs two things that agree: the bootstrap interval leaves 0 out, and the Wilcoxon test is below 0.05. The
interval alone is too narrow with few patients: two that differ the same way always exclude 0. The test alone looks at
ranks, not at the mean that is shown.
"""

from __future__ import annotations

from enum import Enum

from nnunet_semisam.benchmark.metrics import HIGHER_IS_BETTER
from nnunet_semisam.benchmark.records import Difference, Summary

ALPHA = 0.05
FEWEST_GROUPS = 6  # n patients who all agree have p = 2 / 2**n, which is below 0.05 from 6 on


class Verdict(Enum):
    """What may be said of a difference; the values are the words on the page."""

    BETTER = "better"
    WORSE = "worse"
    OPEN = "no difference can be claimed"
    TOO_FEW = "too few patients for a verdict"

    @property
    def is_claim(self) -> bool:
        """Whether a difference is claimed."""
        return self in (Verdict.BETTER, Verdict.WORSE)


def verdict(difference: Difference | None, metric: str = "dice") -> Verdict | None:
    """Return what may be said of a difference; ``None`` where nothing was compared."""
    if difference is None or difference.mean is None:
        return None
    if difference.groups < FEWEST_GROUPS:
        return Verdict.TOO_FEW
    excludes_zero = difference.low > 0 or difference.high < 0
    if not excludes_zero or difference.p >= ALPHA:
        return Verdict.OPEN
    is_higher = difference.low > 0
    return Verdict.BETTER if is_higher == HIGHER_IS_BETTER[metric] else Verdict.WORSE


def least_p(groups: int) -> float:
    """Return the smallest p value that the Wilcoxon test can give so many patients."""
    return 2.0 ** (1 - groups)


def unmatched(summary: Summary, baseline: Summary | None) -> bool:
    """Return whether the means of a trainer and of the baseline rest on other runs than their difference."""
    if summary.difference is None or baseline is None:
        return False
    return summary.difference.pairs < max(summary.runs, baseline.runs)
