"""Trainings in which no unlabeled case contributed, though their trainer is there to use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nnunet_semisam.report.reading.benchmark_folder import Benchmark, GridCell
from nnunet_semisam.report.reading.training_logs import Series

# Columns of semisam_log.csv that hold what an unlabeled term added to the loss.
ADDED_TO_LOSS = ("unlabeled_weighted", "pseudo_label_weighted")


@dataclass(frozen=True)
class InactiveRuns:
    """A cell of the grid with trainings that used no unlabeled case.

    Attributes:
        cell: The place in the grid.
        inactive: How many trainings used none.
        known: Of how many it is known.
    """

    cell: GridCell
    inactive: int
    known: int


def inactive_runs(benchmark: Benchmark, terms: Mapping[str, Series]) -> list[InactiveRuns]:
    """Return the cells of the grid with trainings that used no unlabeled case.

    Args:
        benchmark: The benchmark.
        terms: Run -> the columns of its ``semisam_log.csv``.
    """
    found = []
    for cell in benchmark.grid():
        inactive = known = 0
        for run in benchmark.runs:
            if not cell.holds(run):
                continue
            answer = is_inactive(terms.get(run.name, {}))
            if answer is not None:
                known += 1
                inactive += answer
        if inactive:
            found.append(InactiveRuns(cell, inactive, known))
    return found


def is_inactive(terms: Series) -> bool | None:
    """Return whether all unlabeled terms were 0 in all epochs; ``None`` where there are none, or no log."""
    values = []
    for column in ADDED_TO_LOSS:
        values += [value for _, value in terms.get(column, ())]
    if not values:
        return None
    return not any(values)
