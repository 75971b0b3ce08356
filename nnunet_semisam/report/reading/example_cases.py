"""Which cases are shown: the worst, the median and the best, and where a trainer loses most. Chosen by number alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import RunRecord
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
    runs: list[RunRecord]


def choose_examples(benchmark: Benchmark) -> list[Example]:
    """Return examples of every configuration and budget, in that order."""
    examples = []
    for configuration in benchmark.study.configurations:
        for budget in benchmark.budgets:
            runs = matched_runs(benchmark, configuration, budget)
            if runs:
                examples += _examples_of(benchmark, runs)
    return examples


def matched_runs(benchmark: Benchmark, configuration: str, budget: int) -> list[RunRecord]:
    """Return the done runs of the first fold and seed that most trainers have finished, the baseline's first."""
    together: dict[tuple[int, int], list[RunRecord]] = {}
    for run in benchmark.runs:
        belongs = run.configuration == configuration and run.budget == budget
        if belongs and run.is_done and run.name in benchmark.scores_by_run:
            together.setdefault((run.fold, run.seed), []).append(run)
    if not together:
        return []
    best = max(sorted(together), key=lambda key: len(together[key]))
    return sorted(together[best], key=lambda run: benchmark.trainers.index(run.trainer))


def _examples_of(benchmark: Benchmark, runs: Sequence[RunRecord]) -> list[Example]:
    """Return the examples of matched runs; a case that is chosen for two reasons is one example."""
    focus = runs[-1]  # trainers stand in the order that the user gave them: the last one is the one in question
    dice = case_dice(benchmark, focus)
    ranked = sorted(dice, key=lambda case: (dice[case], case))
    if not ranked:
        return []
    name = benchmark.short(focus.trainer)
    chosen = [
        (ranked[0], f"worst of {len(ranked)} cases by {name}'s Dice"),
        (ranked[(len(ranked) - 1) // 2], f"median of {len(ranked)} cases by {name}'s Dice"),
        (ranked[-1], f"best of {len(ranked)} cases by {name}'s Dice"),
    ]
    if runs[0].trainer == benchmark.baseline and focus is not runs[0]:
        baseline_dice = case_dice(benchmark, runs[0])
        gains = {case: dice[case] - baseline_dice[case] for case in ranked if case in baseline_dice}
        if gains:
            lost = min(gains, key=lambda case: gains[case])
            chosen.append((lost, f"{name} loses most against nnU-Net ({100 * gains[lost]:+.1f})"))
    reasons: dict[str, list[str]] = {}
    for case, reason in chosen:
        reasons.setdefault(case, []).append(reason)
    return [Example(case, why, list(runs)) for case, why in reasons.items()]


def case_dice(benchmark: Benchmark, run: RunRecord) -> Mapping[str, float]:
    """Return case -> mean Dice over labels of a run; cases with nothing to judge are left out."""
    found = {}
    for case, scores in benchmark.scores_by_run.get(run.name, {}).items():
        value = scores[MEAN, "dice"].scored
        if value is not None:
            found[case] = value
    return found
