"""Whether trainers that were to have equal time took it: step times are measured before, hours are what runs took."""

from __future__ import annotations

from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.drawing.number_formats import quantity
from nnunet_semisam.report.reading.benchmark_folder import Benchmark

TOLERANCE = 0.1  # of the baseline's hours


def uneven_hours(benchmark: Benchmark) -> list[str]:
    """Return a sentence per trainer and configuration whose trainings took other hours than the baseline's.

    Runs are compared with the baseline's of the same fold, budget and seed; empty unless time was to be equal.
    """
    if benchmark.study["equal"] != "time":
        return []
    sums: dict[tuple[str, str], list[float]] = {}
    hours = {_key(run): run["train_hours"] for run in benchmark.runs if run["status"] == DONE and run["train_hours"]}
    for (trainer, *where), taken in hours.items():
        theirs = hours.get((benchmark.baseline, *where))
        if trainer != benchmark.baseline and theirs:
            both = sums.setdefault((trainer, where[0]), [0.0, 0.0])
            both[0] += taken
            both[1] += theirs
    return [
        f"Time was to be equal, but {benchmark.short(trainer)} took {ours / theirs:.2f} times the hours of nnU-Net "
        f"with {configuration} ({quantity(ours)} h and {quantity(theirs)} h, validation and killed starts included)."
        for (trainer, configuration), (ours, theirs) in sums.items()
        if abs(ours / theirs - 1) > TOLERANCE
    ]


def _key(run: dict) -> tuple:
    return (run["trainer"], run["configuration"], run["budget"], run["fold"], run["seed"])
