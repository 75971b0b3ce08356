"""Trainer against trainer: paired differences on the same folds, seeds and cases, corrected for how many there are.

Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979, 65-70): it bounds the chance of any wrong claim
among all comparisons, whatever they have in common, and is never less powerful than Bonferroni's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from nnunet_semisam.benchmark import statistics
from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import Difference, Run, Score

Scores = Mapping[Run, Mapping[str, Sequence[Score]]]
"""Run -> case -> scores."""


@dataclass(frozen=True)
class PairComparison:
    """A trainer against another with one configuration and budget.

    Attributes:
        configuration: For example ``2d``.
        budget: Number of labeled groups.
        trainer: Class name.
        other: Class name of the trainer that it is compared with.
        difference: Of ``trainer`` minus ``other``.
        corrected_p: The p value after Holm's correction over all pairs of this configuration and budget; ``None``
            without one.
    """

    configuration: str
    budget: int
    trainer: str
    other: str
    difference: Difference
    corrected_p: float | None


def paired_difference(
    scores: Scores, runs: Sequence[Run], others: Sequence[Run], label: str, metric: str, groups: Mapping[str, str]
) -> Difference:
    """Return the difference between matched runs.

    Args:
        scores: Of every run.
        runs: Of one trainer.
        others: Of another trainer, in the same order of folds and seeds.
        label: A label, or ``mean``.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`.
        groups: Case -> its group (patient).
    """
    tables = comparable([scores[run] for run in [*runs, *others]], label, metric)
    ours, theirs = statistics.average(tables[: len(runs)]), statistics.average(tables[len(runs) :])
    return Difference(**asdict(statistics.compare(ours, theirs, groups)), pairs=len(runs))


def compare_trainers(
    scores: Scores, groups: Mapping[str, str], configuration: str, budget: int, trainers: Sequence[str]
) -> list[PairComparison]:
    """Return every pair of trainers that has runs of the same folds and seeds; mean Dice over labels.

    Args:
        scores: Of every run, with the mean over labels among them.
        groups: Case -> its group (patient).
        configuration: For example ``2d``.
        budget: Number of labeled groups.
        trainers: Class names; of a pair, the later one is compared with the earlier one.
    """
    by_trainer: dict[str, dict[tuple[int, int], Run]] = {}
    for run in scores:
        if (run.configuration, run.budget) == (configuration, budget):
            by_trainer.setdefault(run.trainer, {})[run.fold, run.seed] = run
    found = []
    for other, trainer in combinations([name for name in trainers if name in by_trainer], 2):
        matched = sorted(by_trainer[trainer].keys() & by_trainer[other].keys())
        if matched:
            runs = [[by_trainer[name][key] for key in matched] for name in (trainer, other)]
            found.append((trainer, other, paired_difference(scores, *runs, MEAN, "dice", groups)))
    corrected = holm([difference.p for _, _, difference in found])
    return [
        PairComparison(configuration, budget, trainer, other, difference, p)
        for (trainer, other, difference), p in zip(found, corrected, strict=True)
    ]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p values after Holm's correction; those that are ``None`` stay so and do not count.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    order = sorted((value, i) for i, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        corrected[i] = highest
    return corrected
