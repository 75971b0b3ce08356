"""The summary of a benchmark: means over cases and paired differences to the baseline, from the scores of all runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nnunet_semisam.benchmark import statistics
from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.metrics import ABSENT, FAILURES, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Run

Scores = dict[Run, dict[str, list[dict[str, Any]]]]


def summarize(
    scores: Scores, groups: Mapping[str, str], configurations: Sequence[str], trainers: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a summary of every configuration, budget, trainer, label and metric that has runs.

    Args:
        scores: Run -> case -> scores, with the mean over labels among them.
        groups: Case -> its group (patient).
        configurations: In the order wanted.
        trainers: In the order wanted.
    """
    labels = list(dict.fromkeys(s["label"] for cases in scores.values() for found in cases.values() for s in found))
    for configuration in configurations:
        for budget in sorted({run.budget for run in scores}):
            for trainer in trainers:
                runs = [r for r in scores if (r.configuration, r.budget, r.trainer) == (configuration, budget, trainer)]
                for label in labels if runs else ():
                    for metric in UNITS:
                        cell = {"configuration": configuration, "budget": budget, "trainer": trainer}
                        yield {**cell, "label": label, "metric": metric, **_cell(scores, runs, label, metric, groups)}


def _cell(scores: Scores, runs: Sequence[Run], label: str, metric: str, groups: Mapping[str, str]) -> dict[str, Any]:
    columns = [_column(scores[run], label, metric) for run in runs]
    found = [score for column in columns for score in column.values()]
    statuses = [score["status"] for score in found]
    means = statistics.average(comparable([scores[run] for run in runs], label, metric))
    return {
        "unit": next((unit_of(score) for score in found), UNITS[metric]),
        "runs": len(runs),
        "run_means": [statistics.nan_mean(list(comparable([scores[run]], label, metric)[0].values())) for run in runs],
        **asdict(statistics.mean_interval(means, groups)),
        "failures": sum(state in FAILURES for state in statuses),
        "absent": statuses.count(ABSENT),
        "difference": _difference(scores, runs, label, metric, groups),
    }


def unit_of(score: Mapping[str, Any]) -> str:
    """Return the unit of a score; scores of older versions hold none, and were called mm and ml."""
    return score.get("unit") or UNITS[score["metric"]]


def _difference(
    scores: Scores, runs: Sequence[Run], label: str, metric: str, groups: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the difference to the baseline's runs of the same folds and seeds, if there are any."""
    ours = [run for run in runs if run.trainer != BASELINE and _baseline_of(run) in scores]
    if not ours:
        return None
    both = [*ours, *map(_baseline_of, ours)]
    tables = comparable([scores[run] for run in both], label, metric)
    mine, theirs = statistics.average(tables[: len(ours)]), statistics.average(tables[len(ours) :])
    return {"pairs": len(ours), **asdict(statistics.compare(mine, theirs, groups))}


def _baseline_of(run: Run) -> Run:
    return Run(BASELINE, run.configuration, run.fold, run.budget, run.seed)


def _column(cases: dict[str, list[dict[str, Any]]], label: str, metric: str) -> dict[str, dict[str, Any]]:
    return {c: s for c, found in cases.items() for s in found if s["label"] == label and s["metric"] == metric}
