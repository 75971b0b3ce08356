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
    A list of objects, one per ``configuration``, ``budget``, ``trainer``, ``label`` and ``metric``: ``unit``, ``runs``
    (number), ``run_means`` (one per run), ``mean``, ``low``, ``high``, ``cases``, ``groups`` (see ``statistics.py``),
    ``failures`` (scores, of all runs, with a status of ``metrics.FAILURES``), ``absent``, and ``difference`` to the
    baseline on the same folds, seeds and cases: null, or ``pairs`` (of runs: one of the trainer and one of the
    baseline), ``mean``, ``low``, ``high``, ``cases``, ``groups``, ``p``. With fewer pairs than runs, the means rest on
    other runs than the difference.
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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.cost import cost_of, read_attempts, software_of, totals
from nnunet_semisam.benchmark.metrics import ABSENT, INVENTED, MEAN, MISSED, NO_PREDICTION, OK, UNITS
from nnunet_semisam.benchmark.plan import BASELINE, Run, Study, load_study
from nnunet_semisam.benchmark.runs import status, training_folder
from nnunet_semisam.benchmark.summary import Scores, summarize, unit_of
from nnunet_semisam.benchmark.tasks import DONE, ERROR_FILE, FAILED, read_json, read_json_object
from nnunet_semisam.benchmark.versions import versions
from nnunet_semisam.splits.folds import write_json

FORMAT = 1
COLUMNS = (
    *("run", "trainer", "configuration", "budget", "fold", "seed"),
    *("case", "group", "label", "metric", "unit", "value", "scored", "status"),
)
WORST_FIRST = (NO_PREDICTION, MISSED, INVENTED, OK, ABSENT)


def write_results(study: Study) -> dict[str, Any]:
    """Write both files from the runs that are done, and return the content of ``results.json``.

    Runs that another benchmark has added to the folder by now are in them, too.
    """
    with processes.lock(study.folder, wait=True):  # who writes last has seen all that was done by then
        return _write(load_study(study.folder) or study)


def _write(study: Study) -> dict[str, Any]:
    scores = load_scores(study)
    runs = [describe(study, run) for run in study.runs()]
    cases = cases_of(study, scores)
    content = {
        "format": FORMAT,
        "study": study.to_json(),
        "baseline": BASELINE,
        "versions": versions(),
        "cases": cases,
        "runs": runs,
        "cost": totals(runs),
        "summary": list(summarize(scores, cases["groups"], study.configurations, study.trainers)),
    }
    content = without_nan(content)
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
        unit = next((unit_of(score) for score in scores if score["metric"] == metric), UNITS[metric])
        result.append({"label": MEAN, "metric": metric, "unit": unit, **means, "status": worst})
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


def _write_csv(study: Study, scores: Scores) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for run, cases in scores.items():
        for case, found in cases.items():
            for score in found:
                row = {"run": run.name, **asdict(run), "case": case, "group": study.group_of(case), **score}
                numbers = {k: "" if math.isnan(score[k]) else repr(float(score[k])) for k in ("value", "scored")}
                writer.writerow(row | numbers | {"unit": unit_of(score)})
    path = study.folder / "results.csv"
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
    os.replace(temporary, path)


def without_nan(content: Any) -> Any:
    """Return the content with null for every NaN: json has no such number."""
    return json.loads(json.dumps(content), parse_constant=lambda name: None)
