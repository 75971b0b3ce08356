"""The summary in long format: a row per configuration, budget, trainer, label and metric."""

from __future__ import annotations

from nnunet_semisam.benchmark.records import Summary
from nnunet_semisam.io.csv_files import table_text
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

COLUMNS = (
    "dataset",
    "configuration",
    "budget",
    "trainer",
    "label",
    "metric",
    "unit",
    "mean",
    "low",
    "high",
    "cases",
    "groups",
    "runs",
    "failures",
    "absent",
    "difference",
    "difference_low",
    "difference_high",
    "difference_cases",
    "difference_groups",
    "difference_pairs",
    "p",
)


def long_csv(benchmark: Benchmark) -> str:
    """Return the table; what does not exist is empty. Dice is in [0, 1]. Single cases are in ``results.csv``."""
    return table_text(COLUMNS, (_row(benchmark, summary) for summary in benchmark.summaries))


def _row(benchmark: Benchmark, summary: Summary) -> dict[str, str | float | None]:
    row = {
        "dataset": benchmark.study.dataset,
        "configuration": summary.configuration,
        "budget": summary.budget,
        "trainer": summary.trainer,
        "label": summary.label,
        "metric": summary.metric,
        "unit": benchmark.units[summary.metric],
        "mean": summary.mean,
        "low": summary.low,
        "high": summary.high,
        "cases": summary.cases,
        "groups": summary.groups,
        "runs": summary.runs,
        "failures": summary.failures,
        "absent": summary.absent,
    }
    difference = summary.difference
    if difference is not None:
        row |= {
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "difference_cases": difference.cases,
            "difference_groups": difference.groups,
            "difference_pairs": difference.pairs,
            "p": difference.p,
        }
    return row
