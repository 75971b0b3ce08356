"""What runs cost, by the reports of all their starts (see ``runs/attempts.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnunet_semisam.benchmark.records import Cost, RunRecord, TrainerCost
from nnunet_semisam.runs.attempts import LABEL, PREDICT, TRAIN, Attempt

SECONDS_PER_HOUR = 3600


def cost_of(attempts: Sequence[Attempt]) -> Cost:
    """Return hours, number of starts and peak memory of one run; starts that were killed count."""
    return Cost(
        train_hours=_hours(attempt for attempt in attempts if attempt.stage in (TRAIN, LABEL)),
        predict_hours=_hours(attempt for attempt in attempts if attempt.stage == PREDICT),
        gpu_hours=_hours(attempt for attempt in attempts if attempt.gpu),
        attempts=len(attempts),
        peak_memory_bytes=max((each.peak_memory_bytes for each in attempts if each.peak_memory_bytes), default=None),
        peak_gpu_bytes=max((attempt.peak_gpu_bytes for attempt in attempts if attempt.peak_gpu_bytes), default=None),
    )


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
