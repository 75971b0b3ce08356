"""The summary of a benchmark: means over cases and paired differences to the baseline, from the scores of all runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from nnunet_semisam.benchmark import statistics
from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.pairwise import Scores, paired_difference
from nnunet_semisam.benchmark.plan import BASELINE
from nnunet_semisam.benchmark.records import Difference, Run, Score, ScoreStatus, Summary, known


def summarize(
    scores: Scores, groups: Mapping[str, str], configurations: Sequence[str], trainers: Sequence[str]
) -> Iterator[Summary]:
    """Yield a summary of every configuration, budget, trainer, label and metric that has runs.

    Args:
        scores: Of every run, with the mean over labels among them.
        groups: Case -> its group (patient).
        configurations: In the order wanted.
        trainers: In the order wanted.
    """
    labels = _labels(scores)
    for configuration in configurations:
        for budget in sorted({run.budget for run in scores}):
            for trainer in trainers:
                cell = (configuration, budget, trainer)
                runs = [run for run in scores if (run.configuration, run.budget, run.trainer) == cell]
                if not runs:
                    continue
                for label in labels:
                    for metric in UNITS:
                        yield _summary(scores, runs, label, metric, groups)


def _labels(scores: Scores) -> list[str]:
    """Return all labels, in the order in which they come."""
    found: dict[str, None] = {}
    for cases in scores.values():
        for of_case in cases.values():
            found.update(dict.fromkeys(score.label for score in of_case))
    return list(found)


def _summary(scores: Scores, runs: Sequence[Run], label: str, metric: str, groups: Mapping[str, str]) -> Summary:
    """Return the summary of runs that differ in nothing but fold and seed."""
    found = [score for run in runs for score in _select(scores[run], label, metric)]
    run_means = []
    for run in runs:
        (table,) = comparable([scores[run]], label, metric)
        run_means.append(known(statistics.nan_mean(list(table.values()))))
    means = statistics.average(comparable([scores[run] for run in runs], label, metric))
    return Summary(
        configuration=runs[0].configuration,
        budget=runs[0].budget,
        trainer=runs[0].trainer,
        label=label,
        metric=metric,
        unit=found[0].unit if found else UNITS[metric],
        runs=len(runs),
        run_means=run_means,
        **asdict(statistics.mean_interval(means, groups)),
        failures=sum(score.status.is_failure for score in found),
        absent=sum(score.status == ScoreStatus.ABSENT for score in found),
        difference=_difference(scores, runs, label, metric, groups),
    )


def _difference(
    scores: Scores, runs: Sequence[Run], label: str, metric: str, groups: Mapping[str, str]
) -> Difference | None:
    """Return the difference to the baseline's runs of the same folds and seeds, if there are any."""
    ours = [run for run in runs if run.trainer != BASELINE and _baseline_of(run) in scores]
    if not ours:
        return None
    return paired_difference(scores, ours, [_baseline_of(run) for run in ours], label, metric, groups)


def _baseline_of(run: Run) -> Run:
    return Run(BASELINE, run.configuration, run.fold, run.budget, run.seed)


def _select(cases: Mapping[str, Sequence[Score]], label: str, metric: str) -> Iterator[Score]:
    for scores in cases.values():
        for score in scores:
            if (score.label, score.metric) == (label, metric):
                yield score
