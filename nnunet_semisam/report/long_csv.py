"""The summary in long format: a row per configuration, budget, trainer, label and metric."""

from __future__ import annotations

import csv
import io

from nnunet_semisam.report.reading.benchmark_folder import Benchmark

COLUMNS = (
    *("dataset", "configuration", "budget", "trainer", "label", "metric", "unit", "mean", "low", "high"),
    *("cases", "groups", "runs", "failures", "absent"),
    *("difference", "difference_low", "difference_high", "difference_cases", "difference_groups"),
    *("difference_pairs", "p"),
)


def long_csv(benchmark: Benchmark) -> str:
    """Return the table; what does not exist is empty. Dice is in [0, 1]. Single cases are in ``results.csv``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for cell in benchmark.content["summary"]:
        found = cell["difference"] or {}
        difference = {"difference": found.get("mean"), "p": found.get("p")}
        difference |= {f"difference_{key}": found.get(key) for key in ("low", "high", "cases", "groups", "pairs")}
        row = {**cell, **difference, "dataset": benchmark.study["dataset"], "unit": benchmark.units[cell["metric"]]}
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()
