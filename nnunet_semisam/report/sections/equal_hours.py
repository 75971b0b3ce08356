"""Whether trainers that were to have equal time took it: step times are measured before, hours are what runs took."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_semisam.benchmark.records import Equal, RunRecord
from nnunet_semisam.report.drawing.number_formats import quantity
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

TOLERANCE = 0.1  # of the baseline's hours


@dataclass
class _Hours:
    """Sums over the runs of a trainer that have a partner, and over these."""

    ours: float = 0.0
    baseline: float = 0.0


def uneven_hours(benchmark: Benchmark) -> list[str]:
    """Return a sentence per trainer and configuration whose trainings took other hours than the baseline's.

    Runs are compared with the baseline's of the same fold, budget and seed; empty unless time was to be equal.
    """
    if benchmark.study.equal is not Equal.TIME:
        return []
    trained = [run for run in benchmark.runs if run.is_done and run.cost.train_hours]
    baseline = {_place(run): run.cost.train_hours for run in trained if run.trainer == benchmark.baseline}
    sums: dict[tuple[str, str], _Hours] = {}
    for run in trained:
        if run.trainer != benchmark.baseline and _place(run) in baseline:
            hours = sums.setdefault((run.trainer, run.configuration), _Hours())
            hours.ours += run.cost.train_hours
            hours.baseline += baseline[_place(run)]
    return [
        _sentence(benchmark.short(trainer), configuration, hours)
        for (trainer, configuration), hours in sums.items()
        if abs(hours.ours / hours.baseline - 1) > TOLERANCE
    ]


def _place(run: RunRecord) -> tuple[str, int, int, int]:
    """Return what a run shares with the baseline's run that it is compared with."""
    return run.configuration, run.budget, run.fold, run.seed


def _sentence(name: str, configuration: str, hours: _Hours) -> str:
    return (
        f"Time was to be equal, but {name} took {hours.ours / hours.baseline:.2f} times the hours of nnU-Net with "
        f"{configuration} ({quantity(hours.ours)} h and {quantity(hours.baseline)} h, validation and killed starts "
        "included)."
    )
