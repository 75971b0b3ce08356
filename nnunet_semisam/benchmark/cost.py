"""What runs cost, and the software they ran with, by the reports of all their starts (see ``measured.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_semisam.benchmark.records import Attempt, Cost, RunRecord, Software, TrainerCost
from nnunet_semisam.io.json_files import object_or_none
from nnunet_semisam.io.typed_records import RecordError

SECONDS_PER_HOUR = 3600


def read_attempts(folder: Path) -> list[Attempt]:
    """Return the reports of all starts of a run.

    One that cannot be read, after a power cut for example, is left out: its hours are lost, nothing else is.
    """
    attempts = []
    for path in sorted((folder / "attempts").glob("[!.]*.json")):
        try:
            attempts.append(Attempt.from_json(object_or_none(path) or {}))
        except RecordError:
            continue
    return attempts


def cost_of(attempts: Sequence[Attempt]) -> Cost:
    """Return hours, number of starts and peak memory of one run; starts that were killed count."""
    return Cost(
        train_hours=_hours(attempt for attempt in attempts if attempt.stage == "train"),
        predict_hours=_hours(attempt for attempt in attempts if attempt.stage == "predict"),
        gpu_hours=_hours(attempt for attempt in attempts if attempt.gpu),
        attempts=len(attempts),
        peak_memory_bytes=max((attempt.peak_memory_bytes for attempt in attempts), default=None),
        peak_gpu_bytes=max((attempt.peak_gpu_bytes for attempt in attempts if attempt.peak_gpu_bytes), default=None),
    )


def software_of(attempts: Sequence[Attempt]) -> list[Software]:
    """Return the software of a run's training, once, or more often if it changed between starts."""
    found: list[Software] = []
    for attempt in attempts:
        if attempt.stage == "train":
            now = attempt.software
            found = [*(before for before in found if not now.continues(before)), now]
    return found


def totals(runs: Sequence[RunRecord]) -> list[TrainerCost]:
    """Return the hours of every trainer, over all its runs and starts."""
    found = []
    for trainer in dict.fromkeys(record.trainer for record in runs):
        costs = [record.cost for record in runs if record.trainer == trainer and record.cost.attempts]
        found.append(
            TrainerCost(
                trainer=trainer,
                runs=len(costs),
                train_hours=sum(cost.train_hours for cost in costs),
                predict_hours=sum(cost.predict_hours for cost in costs),
                gpu_hours=sum(cost.gpu_hours for cost in costs),
            )
        )
    return found


def _hours(attempts: Iterable[Attempt]) -> float:
    return sum(attempt.seconds for attempt in attempts) / SECONDS_PER_HOUR
