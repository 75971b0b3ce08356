"""Trainings in which no unlabeled case had a say, though their trainer is there to use them."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_semisam.report.drawing.number_formats import count
from nnunet_semisam.report.reading.benchmark_folder import Benchmark
from nnunet_semisam.report.reading.training_logs import Series

WEIGHTED = "_weighted"  # how columns of the log end that hold what an unlabeled term added to the loss


def unused_cases(benchmark: Benchmark, terms: Mapping[str, Series]) -> list[str]:
    """Return one caution that names every cell of the grid with trainings that used no unlabeled case.

    Args:
        benchmark: The benchmark.
        terms: Run -> the columns of its ``semisam_log.csv``.
    """
    found = []
    for configuration, budget, trainer in benchmark.grid():
        cell = (configuration, budget, trainer)
        known = [
            added_nothing(terms[run["run"]])
            for run in benchmark.runs
            if (run["configuration"], run["budget"], run["trainer"]) == cell and run["run"] in terms
        ]
        silent, trainings = known.count(True), known.count(True) + known.count(False)
        if silent:
            name = f"{benchmark.short(trainer)}, {configuration}, {budget} labeled"
            found.append(f"{name} ({silent} of {count(trainings, 'training')})")
    if not found:
        return []
    return [
        f"No unlabeled case had a say in: {'; '.join(found)}. These trainings ended before the network knew its "
        "labeled cases well enough (maturity_dice), or before the terms start. They are trainings "
        "on labeled cases alone, and say nothing about unlabeled ones. Train longer."
    ]


def added_nothing(terms: Series) -> bool | None:
    """Return whether all unlabeled terms were 0 in all epochs; ``None`` where there are none, or no log."""
    values = [value for name, series in terms.items() if name.endswith(WEIGHTED) for _, value in series]
    return not any(values) if values else None
