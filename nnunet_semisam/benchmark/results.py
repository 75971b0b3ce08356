"""Puts together what the runs of a benchmark left, and writes it to the two files of ``results_files.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from nnunet_semisam.benchmark.cost import cost_of, read_attempts, software_of, totals
from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Study, load_study
from nnunet_semisam.benchmark.records import HeldOutCases, Run, RunRecord, Score, ScoreRow, ScoreStatus
from nnunet_semisam.benchmark.results_files import Results, write_files
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.benchmark.summary import Scores, summarize
from nnunet_semisam.benchmark.versions import versions
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs.base import Status, TaskError


def write_results(study: Study) -> Results:
    """Write both files from the runs that are done, and return what they say.

    Runs that another benchmark has added to the folder by now are in them, too.
    """
    with folder_lock(study.folder, wait=True):  # the last to write has seen all that was done by then
        study = load_study(study.folder) or study
        scores = load_scores(study)
        results = collect(study, scores)
        write_files(results, _rows(study, scores))
    return results


def collect(study: Study, scores: Scores) -> Results:
    """Return the results of all runs.

    Args:
        study: The benchmark.
        scores: Scores of the runs that are done, as :func:`load_scores` returns them.
    """
    runs = [describe(study, run) for run in study.runs()]
    held_out = cases_of(study, scores)
    return Results(
        study=study,
        baseline=BASELINE,
        versions=versions(),
        held_out=held_out,
        runs=runs,
        costs=totals(runs),
        summaries=list(summarize(scores, held_out.groups, study.configurations, study.trainers)),
    )


def load_scores(study: Study) -> Scores:
    """Return the scores of every run that is done, with the mean over labels added to each case."""
    found: dict[Run, dict[str, list[Score]]] = {}
    for run in study.runs():
        task = PerformRun(study, run)
        if task.finished():
            found[run] = {case: with_mean(scores) for case, scores in task.scores().items()}
    return found


def with_mean(scores: Sequence[Score]) -> list[Score]:
    """Return a case's scores and, per metric, their mean over labels that there is something to evaluate of.

    A mean of which one part is undefined has no value, but a score.
    """
    means = []
    for metric in UNITS:
        of_metric = [score for score in scores if score.metric == metric]
        parts = [score for score in of_metric if score.status != ScoreStatus.ABSENT]
        mean = Score(
            label=MEAN,
            metric=metric,
            value=_mean([score.value for score in parts]),
            scored=_mean([score.scored for score in parts]),
            status=_worst([score.status for score in parts]),
            unit=of_metric[0].unit if of_metric else UNITS[metric],
        )
        means.append(mean)
    return [*scores, *means]


def _mean(numbers: Sequence[float | None]) -> float | None:
    """Return the mean; ``None`` without numbers, or if one does not exist."""
    if not numbers or None in numbers:
        return None
    return sum(numbers) / len(numbers)


def _worst(statuses: Sequence[ScoreStatus]) -> ScoreStatus:
    worst_first = list(ScoreStatus)
    return min(statuses, key=worst_first.index, default=ScoreStatus.ABSENT)


def cases_of(study: Study, scores: Scores) -> HeldOutCases:
    """Return which cases the runs are evaluated on, and where their images are."""
    groups: dict[str, str] = {}
    for cases in scores.values():
        for case in cases:
            groups[case] = study.group_of(case)
    folders = {fold: f"held_out/{study.held_out_set(fold)}" for fold in study.folds}
    return HeldOutCases(kind=study.cases, folders=folders, groups=groups)


def describe(study: Study, run: Run) -> RunRecord:
    """Return what is known of a run: where it is, what it cost, what it rests on, what went wrong."""
    task = PerformRun(study, run)
    status = task.status()
    error = TaskError.read(task.folder) if status == Status.FAILED else None
    attempts = read_attempts(task.folder)
    last = attempts[-1] if attempts else None
    return RunRecord(
        **asdict(run),
        status=status,
        error=error.log if error else None,
        steps=task.steps(),
        cost=cost_of(attempts),
        gpu=last.gpu if last else None,
        host=last.host if last else None,
        device=last.device if last else None,
        software=software_of(attempts),
        training=task.training_folder.relative_to(study.folder).as_posix(),
        predictions=task.predictions.relative_to(study.folder).as_posix(),
    )


def _rows(study: Study, scores: Scores) -> Iterator[ScoreRow]:
    for run, cases in scores.items():
        for case, found in cases.items():
            for score in found:
                yield ScoreRow(run, case, study.group_of(case), score)
