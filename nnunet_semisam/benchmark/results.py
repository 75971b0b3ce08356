"""What a benchmark found, in two files that ``nnunet-semisam report`` and anybody else can read.

``results.csv`` has a row per run, case, label and metric, in long format:

=================  ===================================================================================================
column             content
=================  ===================================================================================================
run                name of the run; its folder is ``runs/<run>``
trainer            class name
configuration      for example ``2d``
budget             number of labeled groups (patients)
fold, seed         of the run
case, group        identifier of the held-out case, and its patient
label              name of the label or region, or ``mean`` (over the labels of the case)
metric             ``dice``, ``hd95``, ``assd``, ``volume_error``, ``volume_bias`` (see ``metrics.py``)
unit               ``1`` (a share), ``mm`` or ``ml``; of 2D images ``mm`` or ``px``, and ``mm2`` or ``px2``
value              what was measured; empty if it is undefined
scored             what means and tests use; empty only if the label is in neither label map nor prediction
status             ``ok``, ``absent``, ``missed``, ``invented``, ``no prediction``; for ``mean`` the worst of its labels
=================  ===================================================================================================

``results.json`` is an object:

``format``
    1.
``study``
    The grid and what all runs share: ``study.json``.
``baseline``
    Class name of the baseline.
``versions``
    Of python and the packages that matter, when the results were written; those of the trainings are in ``runs``.
``cases``
    ``{"kind": "test" or "val", "folder": {fold: folder with images and labels}, "groups": {case: patient}}``.
``runs``
    A list of objects: ``run``, ``trainer``, ``configuration``, ``budget``, ``fold``, ``seed``, ``status`` (``done``,
    ``failed``, ``started``, ``new``), ``error`` (text or null), ``steps``, ``train_hours`` and ``predict_hours`` (of
    the device, all attempts, validation included), ``gpu_hours`` (those of both that had a GPU), ``attempts`` (starts
    of both; one whose report a power cut tore is in none of these), ``peak_memory_bytes`` (main process, without
    workers), ``peak_gpu_bytes`` (null without a GPU), ``gpu``, ``host``, ``device``, ``software`` (what the training
    ran with: ``versions``, ``variables`` of the environment, ``sam_fingerprints``; a list of what differed between
    its starts), ``training`` (nnU-Net's output folder with logs and checkpoints), ``predictions``. Folders are
    relative to the file.
``cost``
    A list of objects, one per trainer: ``trainer``, ``runs`` (that began), ``train_hours``, ``predict_hours``,
    ``gpu_hours``, sums over all runs and attempts.
``summary``
    A list of objects, one per ``configuration``, ``budget``, ``trainer``, ``label`` and ``metric``: ``unit``, ``runs``
    (number), ``run_means`` (one per run), ``mean``, ``low``, ``high``, ``cases``, ``groups`` (see ``statistics.py``),
    ``failures`` (scores, of all runs, with a status of ``metrics.FAILURES``), ``absent``, and ``difference`` to the
    baseline on the same folds, seeds and cases: null, or ``pairs`` (of runs: one of the trainer and one of the
    baseline), ``mean``, ``low``, ``high``, ``cases``, ``groups``, ``p``. With fewer pairs than runs, the means rest on
    other runs than the difference.
    Where another of the runs that are averaged or compared invents a label, ``absent`` counts as perfect (see
    ``comparable.py``); so a difference may rest on more cases than a mean. A positive difference of ``dice`` and a
    negative one of every other metric are in favour of the trainer.

Numbers that do not exist are null in json and empty in csv; there is no NaN in either file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_semisam.benchmark.cost import cost_of, read_attempts, software_of, totals
from nnunet_semisam.benchmark.metrics import MEAN, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Study, load_study
from nnunet_semisam.benchmark.records import (
    HeldOutCases,
    Run,
    RunRecord,
    Score,
    ScoreStatus,
    Summary,
    TrainerCost,
    without_nan,
)
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.benchmark.summary import Scores, summarize
from nnunet_semisam.benchmark.versions import versions
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs.base import Status, TaskError

FORMAT = 1
COLUMNS = (
    "run",
    "trainer",
    "configuration",
    "budget",
    "fold",
    "seed",
    "case",
    "group",
    "label",
    "metric",
    "unit",
    "value",
    "scored",
    "status",
)


@dataclass(frozen=True)
class Results:
    """What a benchmark found: the content of ``results.json``.

    Attributes:
        study: The grid and what all runs share.
        versions: Of python and the packages that matter, now.
        cases: Which cases the runs are evaluated on.
        runs: All runs, also those that are not done.
        cost: One entry per trainer.
        summary: One entry per configuration, budget, trainer, label and metric.
    """

    study: Study
    versions: dict[str, str]
    cases: HeldOutCases
    runs: list[RunRecord]
    cost: list[TrainerCost]
    summary: list[Summary]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with null for every NaN."""
        content = {
            "format": FORMAT,
            "study": self.study.to_json(),
            "baseline": BASELINE,
            "versions": self.versions,
            "cases": self.cases,
            "runs": [record.to_json() for record in self.runs],
            "cost": self.cost,
            "summary": self.summary,
        }
        return without_nan(content)


def write_results(study: Study) -> Results:
    """Write both files from the runs that are done, and return what they say.

    Runs that another benchmark has added to the folder by now are in them, too.
    """
    with folder_lock(study.folder, wait=True):  # the last to write has seen all that was done by then
        study = load_study(study.folder) or study
        scores = load_scores(study)
        results = collect(study, scores)
        _write_csv(study, scores)
        write_json(study.folder / "results.json", results.to_json())
    return results


def collect(study: Study, scores: Scores) -> Results:
    """Return the results of all runs.

    Args:
        study: The benchmark.
        scores: Scores of the runs that are done, as :func:`load_scores` returns them.
    """
    runs = [describe(study, run) for run in study.runs()]
    cases = cases_of(study, scores)
    return Results(
        study=study,
        versions=versions(),
        cases=cases,
        runs=runs,
        cost=totals(runs),
        summary=list(summarize(scores, cases.groups, study.configurations, study.trainers)),
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


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


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
    return HeldOutCases(kind=study.cases, folder=folders, groups=groups)


def describe(study: Study, run: Run) -> RunRecord:
    """Return what is known of a run: where it is, what it cost, what it rests on, what went wrong."""
    task = PerformRun(study, run)
    status = task.status()
    error = TaskError.read(task.folder) if status == Status.FAILED else None
    attempts = read_attempts(task.folder)
    last = attempts[-1] if attempts else None
    return RunRecord(
        run=run,
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


def _write_csv(study: Study, scores: Scores) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for run, cases in scores.items():
        for case, found in cases.items():
            place = {"run": run.name, **asdict(run), "case": case, "group": study.group_of(case)}
            for score in found:
                numbers = {"value": _csv_number(score.value), "scored": _csv_number(score.scored)}
                writer.writerow({**place, **asdict(score), **numbers})
    write_text(study.folder / "results.csv", text.getvalue())


def _csv_number(number: float) -> str:
    return "" if math.isnan(number) else repr(float(number))
