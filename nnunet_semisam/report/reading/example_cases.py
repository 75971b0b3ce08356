"""Which cases are shown: the worst, the median and the best, and where a trainer loses most. Chosen by number alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.tasks import DONE
from nnunet_semisam.report.reading.benchmark_folder import Benchmark


@dataclass(frozen=True)
class Example:
    """A case and the runs whose segmentations stand side by side.

    Attributes:
        case: Case identifier.
        reasons: Why it is shown.
        runs: One run per trainer of the same configuration, budget, fold and seed, the baseline's first.
    """

    case: str
    reasons: list[str]
    runs: list[dict[str, Any]]


def choose_examples(benchmark: Benchmark) -> list[Example]:
    """Return examples of every configuration and budget, in that order."""
    return [
        example
        for configuration in benchmark.study["configurations"]
        for budget in benchmark.budgets
        for example in _of_cell(benchmark, matched_runs(benchmark, configuration, budget))
    ]


def matched_runs(benchmark: Benchmark, configuration: str, budget: int) -> list[dict[str, Any]]:
    """Return the done runs of the first fold and seed that most trainers have finished, the baseline's first."""
    together: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for run in benchmark.runs:
        cell = (run["configuration"], run["budget"])
        if cell == (configuration, budget) and run["status"] == DONE and run["run"] in benchmark.scores:
            together.setdefault((run["fold"], run["seed"]), []).append(run)
    if not together:
        return []
    best = max(sorted(together), key=lambda key: len(together[key]))
    return sorted(together[best], key=lambda run: benchmark.trainers.index(run["trainer"]))


def _of_cell(benchmark: Benchmark, runs: Sequence[dict[str, Any]]) -> list[Example]:
    if not runs:
        return []
    focus = runs[-1]  # trainers stand in the order that the user gave them: the last one is the one in question
    dice = case_dice(benchmark, focus)
    ranked = sorted(dice, key=lambda case: (dice[case], case))
    if not ranked:
        return []
    name = benchmark.short(focus["trainer"])
    chosen = {"worst": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "best": ranked[-1]}
    reasons = {f"{kind} of {len(ranked)} cases by {name}'s Dice": case for kind, case in chosen.items()}
    if runs[0]["trainer"] == benchmark.baseline and focus is not runs[0]:
        base = case_dice(benchmark, runs[0])
        both = [case for case in ranked if case in base]
        if both:
            lost = min(both, key=lambda case: dice[case] - base[case])
            reasons[f"{name} loses most against nnU-Net ({100 * (dice[lost] - base[lost]):+.1f})"] = lost
    examples: dict[str, list[str]] = {}
    for reason, case in reasons.items():
        examples.setdefault(case, []).append(reason)
    return [Example(case, why, list(runs)) for case, why in examples.items()]


def case_dice(benchmark: Benchmark, run: Mapping[str, Any]) -> dict[str, float]:
    """Return case -> mean Dice over labels of a run; cases with nothing to judge are left out."""
    found = {case: rows[MEAN, "dice"]["scored"] for case, rows in benchmark.scores.get(run["run"], {}).items()}
    return {case: value for case, value in found.items() if value is not None}
