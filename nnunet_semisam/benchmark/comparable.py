"""Scores of several runs that may be averaged and compared: none is left out where it alone is right.

Where the ground truth lacks a label, a run that shows none has nothing to be evaluated by, but one that invents it has
a Dice of 0. Pairs of which one half is missing would be left out, and the invention would cost nothing. So as soon as
one of the runs is evaluated on a label of a case, all are: a run that rightly shows nothing there has a perfect score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nnunet_semisam.benchmark.metrics import MEAN
from nnunet_semisam.benchmark.records import Score, ScoreStatus

PERFECT = {"dice": 1.0, "hd95": 0.0, "assd": 0.0, "volume_error": 0.0, "volume_bias": 0.0}

Cases = Mapping[str, Sequence[Score]]
"""Case -> its scores."""


def comparable(runs: Sequence[Cases], label: str, metric: str) -> list[dict[str, float]]:
    """Return case -> score for every run.

    Args:
        runs: The scores of each run.
        label: A label, or ``mean``: over the labels of the case on which any of these runs is evaluated.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`.

    Returns:
        One table per run, with NaN where none of the runs is evaluated.
    """
    tables = [{case: _by_label(scores, metric) for case, scores in cases.items()} for cases in runs]
    evaluated: dict[str, set[str]] = {}
    for table in tables:
        for case, scores in table.items():
            names = evaluated.setdefault(case, set())
            names.update(name for name, score in scores.items() if score.status != ScoreStatus.ABSENT)
    wanted = {case: sorted(names if label == MEAN else names & {label}) for case, names in evaluated.items()}
    return [{case: _mean_of(scores, wanted[case], metric) for case, scores in table.items()} for table in tables]


def _by_label(scores: Iterable[Score], metric: str) -> dict[str, Score]:
    return {score.label: score for score in scores if score.metric == metric and score.label != MEAN}


def _mean_of(scores: Mapping[str, Score], labels: Sequence[str], metric: str) -> float:
    numbers = []
    for label in labels:
        score = scores[label]
        numbers.append(PERFECT[metric] if score.status == ScoreStatus.ABSENT else score.scored)
    return sum(numbers) / len(numbers) if numbers else math.nan
