"""Means with bootstrap intervals, and paired comparisons with a baseline.

The unit of chance is the patient (group), not the case: two frames of one heart are no two hearts. So intervals
resample groups, and the Wilcoxon test compares one difference per group. P values are not corrected for the number of
comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from nnunet_semisam.benchmark.records import Comparison, Interval

RESAMPLES = 10_000
LEVEL = 0.95
MOST_EXACT = 300  # differences that are not 0; beyond, the normal distribution is exact enough
DECIMALS = 9  # of differences that are ranked: equal ones must tie, whatever floating point makes of them


def mean_interval(values: Mapping[str, float], groups: Mapping[str, str], seed: int = 0) -> Interval:
    """Return the mean over cases and its interval.

    Args:
        values: Case -> value; NaN leaves the case out.
        groups: Case -> its group.
        seed: Seed of the resampling.
    """
    sums, counts = _per_group(values, groups)
    total = counts.sum()
    mean = float(sums.sum() / total) if total else None
    low, high = _bootstrap(sums, counts, seed)
    return Interval(mean, low, high, int(total), len(counts))


def compare(
    values: Mapping[str, float], baseline: Mapping[str, float], groups: Mapping[str, str], seed: int = 0
) -> Comparison:
    """Compare values with those of a baseline, case by case; cases that one of them lacks are left out.

    Args:
        values: Case -> value.
        baseline: Case -> value of the baseline.
        groups: Case -> its group.
        seed: Seed of the resampling.
    """
    differences = {case: value - baseline[case] for case, value in values.items() if case in baseline}
    interval = mean_interval(differences, groups, seed)
    return Comparison(**asdict(interval), p=_wilcoxon(*_per_group(differences, groups)))


def average(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return case -> mean over several runs; NaN where every run has NaN."""
    cases = dict.fromkeys(case for table in tables for case in table)
    return {case: nan_mean([table[case] for table in tables if case in table]) for case in cases}


def nan_mean(values: Sequence[float]) -> float:
    """Return the mean of what is not NaN; NaN if nothing is left."""
    finite = [value for value in values if not math.isnan(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _per_group(values: Mapping[str, float], groups: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of values and the number of cases of every group that has any."""
    members: dict[str, list[float]] = {}
    for case, value in values.items():
        if not math.isnan(value):
            members.setdefault(groups[case], []).append(value)
    sums = np.array([sum(members[name]) for name in sorted(members)], dtype=float)
    return sums, np.array([len(members[name]) for name in sorted(members)], dtype=float)


def _bootstrap(sums: np.ndarray, counts: np.ndarray, seed: int) -> tuple[float, float] | tuple[None, None]:
    if len(sums) < 2:
        return None, None
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _wilcoxon(sums: np.ndarray, counts: np.ndarray) -> float | None:
    if len(sums) < 2:
        return None
    differences = np.round(sums / counts, DECIMALS)
    if not differences.any():
        return 1.0
    return signed_rank_p(differences)


def signed_rank_p(differences: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, exact also where differences tie or are 0.

    Zeros are ranked and then left out (Pratt). scipy 1.17 takes the normal distribution where there are ties or zeros
    and more than 13 differences, which calls four patients who agree, among twenty who do not differ, significant.

    Args:
        differences: One number per pair, at least one of them not 0.
    """
    from scipy.stats import rankdata, wilcoxon

    signs = differences[differences != 0] > 0
    if len(signs) > MOST_EXACT:
        return float(wilcoxon(differences, zero_method="pratt").pvalue)
    ranks = np.rint(2 * rankdata(np.abs(differences))).astype(int)[differences != 0]  # twice, since ties have halves
    chance = np.zeros(ranks.sum() + 1)  # of every sum of positive ranks, if each sign is a coin's
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[: len(chance) - rank]) / 2
        chance[:rank] /= 2
    positive = int(ranks[signs].sum())
    farther = max(positive, int(ranks.sum()) - positive)
    return min(1.0, 2 * float(chance[farther:].sum()))
