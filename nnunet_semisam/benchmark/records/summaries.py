"""Means over cases and runs, with their intervals, and differences to the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnunet_semisam.io.typed_records import ClassName, Count, FileName, Name, Share, read_record


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its bootstrap interval (percentiles of resampled groups).

    Attributes:
        mean: Mean over cases; ``None`` if there is nothing to evaluate.
        low: Lower end of the 95 % interval; ``None`` with fewer than two groups.
        high: Upper end; ``None`` likewise.
        cases: Number of cases.
        groups: Number of groups (patients).
    """

    mean: float | None
    low: float | None
    high: float | None
    cases: Count
    groups: Count


@dataclass(frozen=True)
class Comparison(Interval):
    """A mean difference to the baseline on the same cases.

    Attributes:
        p: Two-sided Wilcoxon signed-rank test over groups; ``None`` with fewer than two groups.
    """

    p: Share | None


@dataclass(frozen=True)
class Difference(Comparison):
    """A difference to the baseline on the same folds, seeds and cases.

    Attributes:
        pairs: Number of pairs of runs: one of the trainer and one of the baseline.
    """

    pairs: Count


@dataclass(frozen=True, kw_only=True)
class Summary(Interval):
    """One metric of one label for a trainer with one configuration and budget, over all its runs.

    Attributes:
        configuration: For example ``2d``.
        budget: Number of labeled groups.
        trainer: Class name.
        label: Name of the label or region, or ``mean``.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`.
        unit: Of the metric.
        runs: Number of runs.
        run_means: The mean over cases of each run.
        failures: Number of scores, of all runs, with a status that :attr:`ScoreStatus.is_failure`.
        absent: Number of scores, of all runs, with nothing to evaluate.
        difference: To the baseline, if it has runs of the same folds and seeds.
    """

    configuration: FileName
    budget: Count
    trainer: ClassName
    label: Name
    metric: Name
    unit: Name
    runs: Count
    run_means: list[float | None]
    failures: Count
    absent: Count
    difference: Difference | None

    @classmethod
    def from_json(cls, content: Any, place: str = "") -> Summary:
        """Return the summary of an object of ``results.json``."""
        return read_record(cls, content, place)
