"""Intervals and tests against numpy, scipy and hand calculation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nnunet_semisam.benchmark import statistics

GROUPS = {f"p{i}_{frame}": f"p{i}" for i in range(12) for frame in ("a", "b")}


def drawn(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    patients = {f"p{i}": rng.normal(0.7 + shift, 0.1) for i in range(12)}
    return {case: patients[group] + rng.normal(0, 0.01) for case, group in GROUPS.items()}


def test_mean_and_counts_are_over_cases_and_groups():
    groups = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    found = statistics.mean_interval({"a1": 1.0, "a2": 2.0, "b1": 6.0, "b2": math.nan}, groups)
    assert (found.mean, found.cases, found.groups) == (3.0, 3, 2)
    assert (found.low, found.high) == (1.5, 6.0)  # a twice, b twice: each in a quarter of the draws


def test_patients_are_resampled_not_frames():
    """Two frames of a heart agree, so the interval is about as wide as that of twelve patients, not of 24 cases."""
    values = drawn(0)
    found = statistics.mean_interval(values, GROUPS)
    patients = [np.mean([values[c] for c in GROUPS if GROUPS[c] == f"p{i}"]) for i in range(12)]
    reference = stats.bootstrap(
        (patients,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert found.low == pytest.approx(reference.low, abs=0.004)
    assert found.high == pytest.approx(reference.high, abs=0.004)


def test_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        values = {str(i): v for i, v in enumerate(np.random.default_rng(seed).normal(0, 1, 30))}
        found = statistics.mean_interval(values, {case: case for case in values}, seed)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99  # percentile intervals of 30 cases are a little short of 95 %


def test_comparison_is_paired_and_uses_wilcoxon_over_patients():
    baseline, values = drawn(0), drawn(0)
    values = {case: value + 0.03 + 0.001 * i for i, (case, value) in enumerate(values.items())}
    found = statistics.compare(values, baseline, GROUPS)
    differences = [np.mean([values[c] - baseline[c] for c in GROUPS if GROUPS[c] == f"p{i}"]) for i in range(12)]
    assert found.mean == pytest.approx(np.mean(differences))
    assert found.p == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert found.low > 0  # the patients differ by 0.1, the pairs by far less
    assert found.groups == 12


def test_equal_differences_tie_whatever_floating_point_makes_of_them():
    """Distances are multiples of the voxel size, so differences that are equal on paper are common."""
    steps, base = [2, -1, 1, 2, -2, 1, 1, -1, 2, 1], [11, 3, 7, 5, 9, 2, 8, 6, 10, 4]
    cases = {str(i): str(i) for i in range(10)}
    values = {case: (base[int(case)] + steps[int(case)]) * 1.4 for case in cases}
    found = statistics.compare(values, {case: base[int(case)] * 1.4 for case in cases}, cases)
    assert len({values[case] - base[int(case)] * 1.4 for case in cases}) > len(set(steps))  # they do differ
    assert found.p == pytest.approx(stats.wilcoxon(np.array(steps, float), zero_method="pratt").pvalue, abs=1e-12)


def test_only_common_cases_are_compared():
    found = statistics.compare({"a": 1.0, "b": math.nan, "c": 5.0}, {"a": 0.5, "b": 0.5}, {c: c for c in "abc"})
    assert (found.mean, found.cases) == (0.5, 1)
    assert found.p is None
    assert found.low is None


def test_nothing_differs_and_nothing_is_there():
    same = dict.fromkeys("abcdef", 0.5)
    assert statistics.compare(same, same, {c: c for c in same}).p == 1.0
    assert statistics.mean_interval({}, {}).mean is None


def test_runs_are_averaged_case_by_case():
    found = statistics.average([{"a": 1.0, "b": math.nan}, {"a": 2.0, "b": 4.0, "c": math.nan}])
    assert (found["a"], found["b"]) == (1.5, 4.0)
    assert math.isnan(found["c"])


def test_same_data_give_the_same_interval():
    assert statistics.mean_interval(drawn(3), GROUPS) == statistics.mean_interval(drawn(3), GROUPS)


def brute_force(differences):
    """Pratt's two-sided p by its definition: every sign of every difference that is not 0."""
    differences = np.asarray(differences, float)
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    signs = np.array(list(itertools.product([0, 1], repeat=len(ranks))))
    sums, found = signs @ ranks, (ranks * (differences[differences != 0] > 0)).sum()
    return min(1.0, 2 * min((sums >= found - 1e-9).mean(), (sums <= found + 1e-9).mean()))


@pytest.mark.parametrize(
    "differences",
    [
        [0.0] * 20 + [0.1, 0.2, 0.3, 0.4],
        [0.0] * 9 + [0.1, 0.2, 0.3, 0.4, 0.5],
        [0.1] * 6 + [-0.1] * 2 + [0.3, -0.4, 0.0],
        [0.1, -0.2, 0.3, -0.4],
        [0.5, -0.5],
    ],
)
def test_p_is_exact_with_ties_and_zeros(differences):
    assert statistics.signed_rank_p(np.array(differences)) == pytest.approx(brute_force(differences), abs=1e-12)


@pytest.mark.parametrize("zeros", [0, 10, 30])
@pytest.mark.parametrize("agreeing", [4, 5])
def test_patients_that_do_not_differ_are_no_evidence(zeros, agreeing):
    """Five who agree have p = 2 / 2**5, however many others a class was missed in by both."""
    values = dict(enumerate([0.0] * zeros + [0.1 * (i + 1) for i in range(agreeing)]))
    values = {str(case): value for case, value in values.items()}
    found = statistics.compare(values, dict.fromkeys(values, 0.0), {case: case for case in values})
    assert found.p == pytest.approx(2.0 ** (1 - agreeing))


def test_p_of_many_differences_is_that_of_the_normal_distribution():
    differences = np.random.default_rng(0).normal(0.05, 1, statistics.MOST_EXACT + 1)
    found = statistics.signed_rank_p(differences)
    assert found == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert statistics.signed_rank_p(differences[:-1]) == pytest.approx(
        stats.wilcoxon(differences[:-1]).pvalue, abs=0.005
    )
