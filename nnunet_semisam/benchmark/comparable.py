"""Scores of several runs that may be averaged and compared: none is left out where it alone is right.

Where the truth lacks a label, a run that shows none has nothing to be judged by, but one that invents it has a Dice of
0. Pairs of which one half is missing would be left out, and the invention would cost nothing. So as soon as one of the
runs is judged on a label of a case, all are: who rightly shows nothing there has a perfect score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_semisam.benchmark.metrics import ABSENT, MEAN

PERFECT = {"dice": 1.0, "hd95": 0.0, "assd": 0.0, "volume_error": 0.0, "volume_bias": 0.0}

Cases = Mapping[str, Sequence[Mapping[str, Any]]]


def comparable(runs: Sequence[Cases], label: str, metric: str) -> list[dict[str, float]]:
    """Return case -> score for every run.

    Args:
        runs: For each run, case -> scores as in ``scores.json``.
        label: A label, or ``mean``: over the labels of the case on which any of these runs is judged.
        metric: A key of :data:`~nnunet_semisam.benchmark.metrics.UNITS`.

    Returns:
        One table per run, with NaN where none of the runs is judged.
    """
    tables = [{case: _by_label(found, metric) for case, found in cases.items()} for cases in runs]
    judged: dict[str, set[str]] = {}
    for table in tables:
        for case, found in table.items():
            judged.setdefault(case, set()).update(name for name, one in found.items() if one["status"] != ABSENT)
    wanted = {case: sorted(names if label == MEAN else names & {label}) for case, names in judged.items()}
    return [{case: _score(found, wanted[case], metric) for case, found in table.items()} for table in tables]


def _by_label(scores: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Mapping[str, Any]]:
    return {one["label"]: one for one in scores if one["metric"] == metric and one["label"] != MEAN}


def _score(found: Mapping[str, Mapping[str, Any]], labels: Sequence[str], metric: str) -> float:
    scores = [PERFECT[metric] if found[name]["status"] == ABSENT else found[name]["scored"] for name in labels]
    return sum(scores) / len(scores) if scores else math.nan
