"""Two arms compared: trials paired by draw, budget and seed, and in them the same patients.

Patients and trainings are both drawn by chance, and every patient is judged in every training. So the interval
resamples both (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007): patients with replacement, draws
with replacement and in each draw its seeds with replacement, since trainings with one set of labeled patients resemble
each other; the mean is that of all pairs that were drawn. It is wider than one over patients alone, which would speak
of these trainings only.

Two Wilcoxon tests, those of ``nnunet-semisam benchmark``, are given: over patients (one difference each, the mean over
trainings) and over trainings (one difference each, the mean over patients). A difference is claimed where both are
small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.label_efficiency.arms import START
from benchmarks.label_efficiency.results import TrialResult, tables
from nnunet_semisam.benchmark.statistics import LEVEL, RESAMPLES, compare, nan_mean

Run = tuple[str, int]
"""Draw and seed of a training."""


@dataclass(frozen=True)
class PairedDifference:
    """How much better one arm is than another on one label, in Dice of [0, 1].

    Attributes:
        ours: Mean Dice of the arm, over patients and trainings.
        theirs: That of the other.
        mean: Mean difference.
        low: Lower end of the interval; ``None`` with one training or one patient.
        high: Its upper end.
        p_patients: Wilcoxon over patients; ``None`` with one.
        p_runs: Wilcoxon over trainings; ``None`` with one.
        runs: Number of pairs of trainings.
        draws: Number of draws among them.
        patients: Number of patients.
    """

    ours: float
    theirs: float
    mean: float
    low: float | None
    high: float | None
    p_patients: float | None
    p_runs: float | None
    runs: int
    draws: int
    patients: int


def pair(ours: Sequence[TrialResult], theirs: Sequence[TrialResult]) -> list[tuple[TrialResult, TrialResult]]:
    """Return the trials of two arms that belong together: of one draw and seed.

    The common start of a protocol has one seed, and is compared with all of its draw.
    """
    of_run = {_key(result): result for result in theirs}
    pairs = [(result, of_run.get((result.draw, None if _is_start(theirs) else result.seed))) for result in ours]
    return [(one, other) for one, other in pairs if other is not None]


def _is_start(results: Sequence[TrialResult]) -> bool:
    return any(result.arm == START for result in results)


def _key(result: TrialResult) -> tuple[str, int | None]:
    return result.draw, None if result.arm == START else result.seed


def difference(pairs: Sequence[tuple[TrialResult, TrialResult]], label: str) -> PairedDifference:
    """Compare the arms of paired trials.

    Args:
        pairs: From :func:`pair`; at least one.
        label: A label, or ``mean``: over the labels of a case.
    """
    ours, theirs, differences = {}, {}, {}
    patients = {}
    for one, other in pairs:
        run = (one.draw, one.seed)
        first, second = tables([one, other], label)
        for case, value in first.items():
            ours[run, case], theirs[run, case] = value, second[case]
            patients[run, case] = one.patient[case]
            differences.setdefault(run, {}).setdefault(one.patient[case], []).append(value - second[case])
    runs = {key: str(key[0]) for key in ours}
    over_patients, over_runs = compare(ours, theirs, patients), compare(ours, theirs, runs)
    per_patient = {
        run: {name: nan_mean(values) for name, values in of_run.items()} for run, of_run in differences.items()
    }
    low, high = two_way_interval(per_patient)
    return PairedDifference(
        ours=nan_mean(list(ours.values())),
        theirs=nan_mean(list(theirs.values())),
        mean=over_patients.mean if over_patients.mean is not None else math.nan,
        low=low,
        high=high,
        p_patients=over_patients.p,
        p_runs=over_runs.p,
        runs=len(pairs),
        draws=len({one.draw for one, _ in pairs}),
        patients=len({*patients.values()}),
    )


def two_way_interval(
    differences: Mapping[Run, Mapping[str, float]], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | tuple[None, None]:
    """Return the interval of a mean over trainings and patients, both of which are resampled.

    Args:
        differences: Training (draw and seed) -> patient -> difference; NaN, or no entry, leaves a pair out.
        resamples: How often.
        seed: Seed of the resampling.

    Returns:
        Its ends; ``None`` with fewer than two trainings or patients.
    """
    runs = sorted(differences)
    patients = sorted({patient for of_run in differences.values() for patient in of_run})
    if len(runs) < 2 or len(patients) < 2:
        return None, None
    values = np.array([[differences[run].get(patient, math.nan) for patient in patients] for run in runs])
    there = ~np.isnan(values)
    values = np.where(there, values, 0.0)
    random = np.random.default_rng(seed)
    counts_of_runs = _drawn_runs(runs, resamples, random)
    counts_of_patients = random.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), resamples)
    sums = np.einsum("br,rp,bp->b", counts_of_runs, values, counts_of_patients, optimize=True)
    counts = np.einsum("br,rp,bp->b", counts_of_runs, there.astype(float), counts_of_patients, optimize=True)
    means = sums[counts > 0] / counts[counts > 0]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _drawn_runs(runs: Sequence[Run], resamples: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each training is drawn, ``(resamples, runs)``: draws first, then seeds in each of them.

    With one draw only its seeds are drawn: then the interval speaks of that draw.
    """
    draws = sorted({draw for draw, _ in runs})
    members = {draw: [index for index, (name, _) in enumerate(runs) if name == draw] for draw in draws}
    counts = np.zeros((resamples, len(runs)))
    for resample in range(resamples):
        for draw in random.integers(0, len(draws), len(draws)):
            of_draw = members[draws[draw]]
            for index in random.integers(0, len(of_draw), len(of_draw)):
                counts[resample, of_draw[index]] += 1
    return counts
