"""What of a benchmark's two files fits together: nothing else is shown, and all that is left out is noted.

The files are written one after the other, copied, and mended by hand; and not everybody who sends a benchmark means
well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.benchmark.records import Interval, RunRecord, ScoreRow, Summary
from nnunet_semisam.benchmark.results_files import CSV_FILE, JSON_FILE, REMEDY, Results
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.report.reading.damage import Damage

ALLOWED_UNITS = {"1": {"1"}, "mm": {"mm", "px"}, "ml": {"ml", "mm2", "px2"}}  # of volumes -> those of planes, too
TOLERANCE = 1e-6  # of sums in another order
ENTRIES = f"entries of {JSON_FILE}"
ROWS = f"rows of {CSV_FILE}"
E = TypeVar("E")


def check_study(results: Results) -> None:
    """Refuse results of which no page can be made.

    Raises:
        UserError: If the grid is empty or names something twice, or the baseline or a folder of cases is not there.
    """
    study = results.study
    problem = ""
    for name in ("trainers", "configurations", "seeds", "folds"):
        entries = list(getattr(study, name))
        if not entries or len(set(entries)) < len(entries):
            problem = f"study.{name} is empty or names something twice: {name_some(list(map(str, entries)), 5)}"
    if results.baseline not in study.trainers:
        problem = f"the baseline {results.baseline!r} is none of study.trainers"
    lacking = [str(fold) for fold in study.folds if fold not in results.held_out.folders]
    if lacking:
        problem = f"cases.folder lacks fold {', '.join(lacking)} of study.folds"
    if problem:
        raise UserError(f"{study.folder / JSON_FILE} contradicts itself: {problem}. {REMEDY}")


def usable_results(results: Results, damage: Damage) -> Results:
    """Return the results without entries that contradict the grid, themselves or each other."""
    runs = _distinct(results.runs, damage, lambda run: run.name, lambda run: _problem_of_run(results, run))
    costs = _distinct(
        results.costs,
        damage,
        lambda cost: f"cost of {cost.trainer}",
        lambda cost: "" if cost.trainer in results.study.trainers else "its trainer is none of the grid",
    )
    summaries = _distinct(results.summaries, damage, _name_of_summary, lambda one: _problem_of_summary(results, one))
    return replace(results, runs=runs, costs=costs, summaries=summaries)


def _distinct(
    entries: Sequence[E], damage: Damage, name_of: Callable[[E], str], problem_of: Callable[[E], str]
) -> list[E]:
    """Return the entries without a problem, each once."""
    found: dict[str, E] = {}
    for entry in entries:
        name = name_of(entry)
        problem = "it is there twice" if name in found else problem_of(entry)
        if problem:
            damage.note(ENTRIES, name, problem)
        else:
            found[name] = entry
    return list(found.values())


def _problem_of_run(results: Results, run: RunRecord) -> str:
    study = results.study
    fold = study.folds.get(run.fold)
    if run.trainer not in study.trainers or run.configuration not in study.configurations:
        return "its trainer or configuration is none of the grid"
    if fold is None or run.seed not in study.seeds:
        return "its fold or seed is none of the grid"
    if fold.budget != run.budget:
        return f"its budget is {run.budget}, that of its fold {fold.budget}"
    return ""


def _name_of_summary(one: Summary) -> str:
    return f"{one.trainer}, {one.configuration}, {one.budget} labeled, {one.label}, {one.metric}"


def _problem_of_summary(results: Results, one: Summary) -> str:
    study = results.study
    budgets = {fold.budget for fold in study.folds.values()}
    if one.trainer not in study.trainers or one.configuration not in study.configurations or one.budget not in budgets:
        return "it is of no cell of the grid"
    if one.metric not in UNITS or one.unit not in ALLOWED_UNITS[UNITS[one.metric]]:
        return f"its metric or unit is unknown: {one.metric}, {one.unit}"
    if len(one.run_means) != one.runs:
        return f"it has {len(one.run_means)} means of {one.runs} runs"
    least, most = range_of(one.metric)
    means = [mean for mean in one.run_means if mean is not None]
    problem = _problem_of_interval(one, least, most) or _problem_of_numbers(means, least, most)
    if not problem and one.difference is not None:
        problem = _problem_of_interval(one.difference, -most, most)
        if not problem and (one.difference.p is None) != (one.difference.groups < 2):
            problem = "its difference lacks a p value, or has one of a single patient"
    return problem


def _problem_of_interval(one: Interval, least: float, most: float) -> str:
    if (one.mean is None) != (one.cases == 0):
        return f"it has no mean, or one of no case ({one.cases} cases)"
    has_ends = one.groups >= 2
    if (one.low is not None) != has_ends or (one.high is not None) != has_ends:
        return f"it lacks an end of its interval, or has one of {one.groups} patients"
    if has_ends and one.low > one.high:
        return "its interval ends before it begins"
    return _problem_of_numbers([number for number in (one.mean, one.low, one.high) if number is not None], least, most)


def _problem_of_numbers(numbers: Iterable[float], least: float, most: float) -> str:
    wrong = [number for number in numbers if not least - TOLERANCE <= number <= most + TOLERANCE]
    return f"{wrong[0]:g} is no such measurement" if wrong else ""


def range_of(metric: str) -> tuple[float, float]:
    """Return between which numbers a metric can be: absurdly large ones are none."""
    if metric == "dice":
        return 0.0, 1.0
    return (-1e9, 1e9) if metric == "volume_bias" else (0.0, 1e9)


def usable_rows(results: Results, rows: Sequence[ScoreRow], damage: Damage) -> list[ScoreRow]:
    """Return the rows of runs that are done, and of these the cases that have all their scores, each once.

    Args:
        results: As :func:`usable_results` returns them.
        rows: The rows of ``results.csv``.
        damage: Gets a note of everything that is left out.
    """
    done = {run.name for run in results.runs if run.is_done}
    cases: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in rows:
        problem = _problem_of_row(results, row, done)
        if problem:
            damage.note(ROWS, problem)
        else:
            cases.setdefault((row.run.name, row.case), []).append(row)
    kinds = Counter(frozenset((row.score.label, row.score.metric) for row in of_case) for of_case in cases.values())
    wanted = max(kinds, key=len, default=frozenset())
    found = []
    for (run, case), of_case in cases.items():
        scores = Counter((row.score.label, row.score.metric) for row in of_case)
        if scores.keys() != wanted or max(scores.values()) > 1 or not _is_complete(wanted):
            damage.note(f"cases of {CSV_FILE}", f"{case} of {run}", "it lacks scores, or has one twice")
        else:
            found += of_case
    for name in sorted(done - {row.run.name for row in found}):
        damage.note("single cases of runs that are done", name, f"{CSV_FILE} holds none of them that can be used")
    return found


def _problem_of_row(results: Results, row: ScoreRow, done: set[str]) -> str:
    if row.run.name not in done:
        return f"those of {row.run.name}, which is not done by {JSON_FILE}"
    group = results.held_out.groups.get(row.case)
    if group is None:
        return f"those of {row.case}, which is no held-out case by {JSON_FILE}"
    if group != row.group:
        return f"those of {row.case}, which is of {row.group}, and of {group} by {JSON_FILE}"
    score = row.score
    if score.metric not in UNITS or score.unit not in ALLOWED_UNITS[UNITS[score.metric]]:
        return f"{score.metric} in {score.unit}, which is no metric"
    numbers = [one for one in (score.value, score.scored) if one is not None]
    problem = _problem_of_numbers(numbers, *range_of(score.metric))
    if not problem and len(numbers) == 2 and not _same(*numbers):
        problem = f"it is {score.value:g}, and counts as {score.scored:g}"
    return f"{score.metric} of {row.case} in {row.run.name}: {problem}" if problem else ""


def _is_complete(scores: frozenset[tuple[str, str]]) -> bool:
    labels = {label for label, _ in scores}
    return MEAN in labels and scores == {(label, metric) for label in labels for metric in UNITS}


def contradictions(results: Results, rows: Sequence[ScoreRow]) -> list[str]:
    """Return a sentence if means of ``results.json`` are not those of the rows of ``results.csv``.

    Args:
        results: As :func:`usable_results` returns them.
        rows: As :func:`usable_rows` returns them.
    """
    means = _means_of_runs(rows)
    wrong = []
    for one in results.summaries:
        cell = (one.configuration, one.budget, one.trainer)
        ours = [
            means[run.name, one.label, one.metric]
            for run in results.runs
            if (run.configuration, run.budget, run.trainer) == cell and (run.name, one.label, one.metric) in means
        ]
        theirs = [mean for mean in one.run_means if mean is not None]
        if len(ours) != len(theirs) or not all(map(_same, sorted(ours), sorted(theirs))):
            wrong.append(_name_of_summary(one))
    if not wrong:
        return []
    return [
        f"{JSON_FILE} and {CSV_FILE} contradict each other in {len(wrong)} of {len(results.summaries)} means, for "
        f"example {name_some(wrong, 2)}: they were written at different times, or one of them was changed. Means and "
        f"differences are those of {JSON_FILE}, single cases those of {CSV_FILE}. {REMEDY}"
    ]


def _same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _means_of_runs(rows: Sequence[ScoreRow]) -> Mapping[tuple[str, str, str], float]:
    """Return run, label and metric -> mean over the cases with something to evaluate."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row.score.scored is not None:
            found.setdefault((row.run.name, row.score.label, row.score.metric), []).append(row.score.scored)
    return {key: sum(values) / len(values) for key, values in found.items()}
