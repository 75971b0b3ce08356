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
unit               ``1`` (a share), ``mm`` or ``ml``
value              what was measured; empty if it is undefined
scored             what means and tests use; empty only if the label is in neither truth nor prediction
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
    A list of objects, one per ``configuration``, ``budget``, ``trainer``, ``label`` and ``metric``: ``runs`` (number),
    ``run_means`` (one per run), ``mean``, ``low``, ``high``, ``cases``, ``groups`` (see ``statistics.py``),
    ``failures`` (scores, of all runs, with a status of ``metrics.FAILURES``), ``absent``, and ``difference`` to the
    baseline on the same folds, seeds and cases: null, or ``mean``, ``low``, ``high``, ``cases``, ``groups``, ``p``.
    Where another of the runs that are averaged or compared invents a label, ``absent`` counts as perfect (see
    ``comparable.py``); so a difference may rest on more cases than a mean. A positive difference of ``dice`` and a
    negative one of every other metric speak for the trainer.

Numbers that do not exist are null in json and empty in csv; there is no NaN in either file.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark import processes, statistics
from nnunet_semisam.benchmark.comparable import comparable
from nnunet_semisam.benchmark.cost import cost_of, read_attempts, software_of, totals
from nnunet_semisam.benchmark.metrics import ABSENT, FAILURES, INVENTED, MEAN, MISSED, NO_PREDICTION, OK, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Run, Study, load_study
from nnunet_semisam.benchmark.runs import status, training_folder
from nnunet_semisam.benchmark.tasks import DONE, ERROR_FILE, FAILED, read_json, read_json_object
from nnunet_semisam.benchmark.versions import versions
from nnunet_semisam.data.splits import write_json

FORMAT = 1
COLUMNS = (
    *("run", "trainer", "configuration", "budget", "fold", "seed"),
    *("case", "group", "label", "metric", "unit", "value", "scored", "status"),
)
WORST_FIRST = (NO_PREDICTION, MISSED, INVENTED, OK, ABSENT)

Scores = dict[Run, dict[str, list[dict[str, Any]]]]


def write_results(study: Study) -> dict[str, Any]:
    """Write both files from the runs that are done, and return the content of ``results.json``.

    Runs that another benchmark has added to the folder by now are in them, too.
    """
    with processes.lock(study.folder, wait=True):  # who writes last has seen all that was done by then
        return _write(load_study(study.folder) or study)


def _write(study: Study) -> dict[str, Any]:
    scores = load_scores(study)
    runs = [describe(study, run) for run in study.runs()]
    content = {
        "format": FORMAT,
        "study": study.to_json(),
        "baseline": BASELINE,
        "versions": versions(),
        "cases": cases_of(study, scores),
        "runs": runs,
        "cost": totals(runs),
        "summary": list(summarize(study, scores)),
    }
    content = _without_nan(content)
    _write_csv(study, scores)
    write_json(study.folder / "results.json", content)
    return content


def load_scores(study: Study) -> Scores:
    """Return the scores of every run that is done, with the mean over labels added to each case."""
    return {
        run: {case: with_mean(scores) for case, scores in read_json(study.folder_of(run) / "scores.json").items()}
        for run in study.runs()
        if status(study, run) == DONE
    }


def with_mean(scores: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a case's scores and, per metric, their mean over labels that there is something to judge of.

    A mean of which one part is undefined has no value, but a score.
    """
    result = list(scores)
    for metric in UNITS:
        parts = [score for score in scores if score["metric"] == metric and score["status"] != ABSENT]
        worst = min((score["status"] for score in parts), key=WORST_FIRST.index, default=ABSENT)
        means = {}
        for column in ("value", "scored"):
            numbers = [score[column] for score in parts]
            means[column] = sum(numbers) / len(numbers) if numbers else math.nan
        result.append({"label": MEAN, "metric": metric, **means, "status": worst})
    return result


def cases_of(study: Study, scores: Scores) -> dict[str, Any]:
    """Return which cases judged the runs, and where their images are."""
    names = {fold: "test" if study.cases == "test" else f"val_fold_{fold}" for fold in study.folds}
    groups = {case: study.group_of(case) for cases in scores.values() for case in cases}
    return {"kind": study.cases, "folder": {f: f"held_out/{name}" for f, name in names.items()}, "groups": groups}


def describe(study: Study, run: Run) -> dict[str, Any]:
    """Return what is known of a run: where it is, what it cost, what it rests on, what went wrong."""
    folder = study.folder_of(run)
    attempts = read_attempts(folder)
    trained = read_json(folder / "trained.json")["settings"] if (folder / "trained.json").is_file() else None
    state = status(study, run)
    last = attempts[-1] if attempts else {}
    return {
        "run": run.name,
        **asdict(run),
        "status": state,
        "error": (read_json_object(folder / ERROR_FILE) or {}).get("log") if state == FAILED else None,
        "steps": trained and trained["num_epochs"] * trained["num_iterations_per_epoch"],
        **cost_of(attempts),
        **{name: last.get(name) for name in ("gpu", "host", "device")},
        "software": software_of(attempts),
        "training": training_folder(study, run).relative_to(study.folder).as_posix(),
        "predictions": (folder / "predictions").relative_to(study.folder).as_posix(),
    }


def summarize(study: Study, scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield a summary of every configuration, budget, trainer, label and metric that has runs."""
    labels = list(dict.fromkeys(s["label"] for cases in scores.values() for found in cases.values() for s in found))
    for configuration in study.configurations:
        for budget in sorted({content["budget"] for content in study.folds.values()}):
            for trainer in study.trainers:
                runs = [r for r in scores if (r.configuration, r.budget, r.trainer) == (configuration, budget, trainer)]
                for label in labels if runs else ():
                    for metric in UNITS:
                        cell = {"configuration": configuration, "budget": budget, "trainer": trainer}
                        yield {**cell, "label": label, "metric": metric, **_cell(study, scores, runs, label, metric)}


def _cell(study: Study, scores: Scores, runs: Sequence[Run], label: str, metric: str) -> dict[str, Any]:
    columns = [_column(scores[run], label, metric) for run in runs]
    groups = {case: study.group_of(case) for column in columns for case in column}
    statuses = [score["status"] for column in columns for score in column.values()]
    means = statistics.average(comparable([scores[run] for run in runs], label, metric))
    return {
        "runs": len(runs),
        "run_means": [statistics.nan_mean(list(comparable([scores[run]], label, metric)[0].values())) for run in runs],
        **asdict(statistics.mean_interval(means, groups)),
        "failures": sum(state in FAILURES for state in statuses),
        "absent": statuses.count(ABSENT),
        "difference": _difference(scores, runs, label, metric, groups),
    }


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
    return asdict(statistics.compare(mine, theirs, groups))


def _baseline_of(run: Run) -> Run:
    return Run(BASELINE, run.configuration, run.fold, run.budget, run.seed)


def _column(cases: dict[str, list[dict[str, Any]]], label: str, metric: str) -> dict[str, dict[str, Any]]:
    return {c: s for c, found in cases.items() for s in found if s["label"] == label and s["metric"] == metric}


def _write_csv(study: Study, scores: Scores) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for run, cases in scores.items():
        for case, found in cases.items():
            for score in found:
                row = {"run": run.name, **asdict(run), "case": case, "group": study.group_of(case), **score}
                numbers = {k: "" if math.isnan(score[k]) else repr(float(score[k])) for k in ("value", "scored")}
                writer.writerow(row | numbers | {"unit": UNITS[score["metric"]]})
    path = study.folder / "results.csv"
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
    os.replace(temporary, path)


def _without_nan(content: Any) -> Any:
    """Return the content with null for every NaN: json has no such number."""
    return json.loads(json.dumps(content), parse_constant=lambda name: None)
