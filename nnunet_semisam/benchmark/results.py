"""Puts together what the runs of a benchmark left, and writes it to the two files of ``results_files.py``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from nnunet_semisam.benchmark.cost import cost_of, totals
from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Study, load_study
from nnunet_semisam.benchmark.records import HeldOutCases, Run, RunRecord, Score, ScoreRow, ScoreStatus
from nnunet_semisam.benchmark.results_files import Results, write_files
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.benchmark.summary import Scores, summarize
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs.base import Status, TaskError
from nnunet_semisam.runs.attempts import software_of
from nnunet_semisam.runs.model_run import REMEDY
from nnunet_semisam.runs.versions import versions

LOGGER = logging.getLogger(__name__)


def write_results(study: Study) -> Results:
    """Write both files from the runs that are done, and return what they say.

    Runs that another benchmark has added to the folder by now are in them, too.
    """
    with folder_lock(study.folder, wait=True):  # the last to write has seen all that was done by then
        study = load_study(study.folder) or study
        scores, damaged = load_scores(study)
        results = collect(study, scores, damaged)
        write_files(results, _rows(study, scores))
    return results


def collect(study: Study, scores: Scores, damaged: Mapping[Run, str]) -> Results:
    """Return the results of all runs.

    Args:
        study: The benchmark.
        scores: Scores of the runs that are done, as :func:`load_scores` returns them.
        damaged: Why the scores of others cannot be used, as it returns them, too.
    """
    runs = [describe(study, run, damaged.get(run)) for run in study.runs()]
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


def load_scores(study: Study) -> tuple[Scores, dict[Run, str]]:
    """Return the scores of every run that is done, with the mean over labels added to each case.

    One damaged file among many must not cost the others their results: what is returned second says why a run has no
    scores, though they were written.
    """
    found: dict[Run, dict[str, list[Score]]] = {}
    damaged: dict[Run, str] = {}
    for run in study.runs():
        task = PerformRun(study, run)
        if not task.scores_file.is_file():
            continue
        try:
            if task.steps() is None:
                continue
            scores = task.scores()
            _check_complete(scores, task)
        except UserError as error:
            damaged[run] = str(error)
            LOGGER.warning("%s is in no mean: %s", run.name, error)
            continue
        found[run] = {case: with_mean(of_case) for case, of_case in scores.items()}
    return found, damaged


def _check_complete(scores: Mapping[str, Sequence[Score]], task: PerformRun) -> None:
    """Refuse a file of which a part is lost: means of what is left would be means of something else.

    Raises:
        UserError: If a case is missing, or has not every metric of every label once.
    """
    held_out = task.study.held_out.get(task.study.held_out_set(task.run.fold))
    if held_out is not None and held_out.digests.keys() != scores.keys():
        differing = sorted(held_out.digests.keys() ^ scores.keys())
        raise UserError(f"{task.scores_file} has other cases than the study: {name_some(differing, 5)}. {REMEDY}")
    wanted: set[tuple[str, str]] = set()
    for case, of_case in scores.items():
        found = [(score.label, score.metric) for score in of_case]
        labels = {label for label, _ in found}
        if MEAN in labels:
            raise UserError(f"A label is called {MEAN!r}, which is the name of the mean over labels. Rename it.")
        wanted = wanted or {(label, metric) for label in labels for metric in UNITS}
        if set(found) != wanted or len(found) != len(wanted):
            raise UserError(
                f"{task.scores_file}: the scores of {case} lack a label or a metric of the others, or hold one twice. "
                f"{REMEDY}"
            )


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


def describe(study: Study, run: Run, damage: str | None = None) -> RunRecord:
    """Return what is known of a run: where it is, what it cost, what it rests on, what went wrong.

    Args:
        study: The benchmark.
        run: The run.
        damage: Why its scores cannot be used, though it has some: it counts as failed.
    """
    task = PerformRun(study, run)
    status = Status.FAILED if damage else task.status()
    error = TaskError.read(task.folder) if status == Status.FAILED and not damage else None
    try:
        steps = task.steps()
    except UserError as unreadable:
        steps = None
        LOGGER.warning("The number of steps of %s is not known: %s", run.name, unreadable)
    attempts = task.attempts()
    last = attempts[-1] if attempts else None
    return RunRecord(
        **asdict(run),
        status=status,
        error=damage or (str(error.log) if error else None),
        steps=steps,
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
