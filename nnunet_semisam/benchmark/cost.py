"""What runs cost, and the software they ran with, by the reports of all their starts (see ``measured.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.tasks import read_json_object

SECONDS_PER_HOUR = 3600
HOURS = ("train_hours", "predict_hours", "gpu_hours")
NEEDED = {"stage", "seconds", "gpu", "peak_memory_bytes", "peak_gpu_bytes"}
SOFTWARE = ("versions", "variables", "sam_fingerprints")

Attempts = Sequence[Mapping[str, Any]]


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the reports of all starts of a run.

    One that cannot be read, after a power cut say, is left out: its hours are lost, but all that was found is not.
    """
    found = [read_json_object(path) for path in sorted((folder / "attempts").glob("[!.]*.json"))]
    return [attempt for attempt in found if attempt is not None and attempt.keys() >= NEEDED]


def cost_of(attempts: Attempts) -> dict[str, Any]:
    """Return hours, number of starts and peak memory of one run; starts that were killed count."""
    return {
        **{f"{stage}_hours": _hours(a for a in attempts if a["stage"] == stage) for stage in ("train", "predict")},
        "gpu_hours": _hours(a for a in attempts if a["gpu"]),
        "attempts": len(attempts),
        "peak_memory_bytes": max((a["peak_memory_bytes"] for a in attempts), default=None),
        "peak_gpu_bytes": max((a["peak_gpu_bytes"] for a in attempts if a["peak_gpu_bytes"]), default=None),
    }


def software_of(attempts: Attempts) -> list[dict[str, Any]]:
    """Return the software of a run's training, once, or more often if it changed between starts."""
    found: list[dict[str, Any]] = []
    for attempt in attempts:
        if attempt["stage"] == "train" and "versions" in attempt:
            content = {name: attempt[name] for name in SOFTWARE}
            rest = [one for one in found if not _goes_on(one, content)]
            found = [*rest, content]
    return found


def _goes_on(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a later start only knows more: the weights of SAM are on record from its first round on."""
    same = all(before[name] == now[name] for name in ("versions", "variables"))
    return same and set(before["sam_fingerprints"]) <= set(now["sam_fingerprints"])


def totals(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the hours of every trainer, over all its runs and starts."""
    found = []
    for trainer in dict.fromkeys(run["trainer"] for run in runs):
        mine = [run for run in runs if run["trainer"] == trainer and run["attempts"]]
        found.append(
            {"trainer": trainer, "runs": len(mine), **{name: sum(run[name] for run in mine) for name in HOURS}}
        )
    return found


def _hours(attempts: Any) -> float:
    return sum(attempt["seconds"] for attempt in attempts) / SECONDS_PER_HOUR
