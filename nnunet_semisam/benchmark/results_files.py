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
    ``failures`` (scores, of all runs, with the status ``missed``, ``invented`` or ``no prediction``), ``absent``, and
    ``difference`` to the baseline on the same folds, seeds and cases: null, or ``pairs`` (of runs: one of the trainer
    and one of the baseline), ``mean``, ``low``, ``high``, ``cases``, ``groups``, ``p``. With fewer pairs than runs, the
    means rest on other runs than the difference.
    Where another of the runs that are averaged or compared invents a label, ``absent`` counts as perfect (see
    ``comparable.py``); so a difference may rest on more cases than a mean. A positive difference of ``dice`` and a
    negative one of every other metric are in favour of the trainer.

Numbers that do not exist are null in json and empty in csv; there is no NaN in either file. Texts in the csv file that
a spreadsheet would run as a formula begin with an apostrophe (see ``io/csv_files.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nnunet_semisam.benchmark.plan import Study
from nnunet_semisam.benchmark.records import HeldOutCases, RunRecord, ScoreRow, Summary, TrainerCost
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.csv_files import read_table, write_table
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.io.typed_records import RecordError, read_entry

FORMAT = 1
JSON_FILE = "results.json"
CSV_FILE = "results.csv"
REMEDY = f"Start the benchmark once more: it keeps what is done and writes {JSON_FILE} and {CSV_FILE} again."
T = TypeVar("T")
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
        baseline: Class name of the baseline.
        versions: Of python and the packages that matter, when the results were written.
        held_out: Which cases the runs are evaluated on.
        runs: All runs, also those that are not done, in the order of the grid.
        costs: One entry per trainer.
        summaries: One entry per configuration, budget, trainer, label and metric.
    """

    study: Study
    baseline: str
    versions: Mapping[str, str]
    held_out: HeldOutCases
    runs: Sequence[RunRecord]
    costs: Sequence[TrainerCost]
    summaries: Sequence[Summary]

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "format": FORMAT,
            "study": self.study.to_json(),
            "baseline": self.baseline,
            "versions": self.versions,
            "cases": self.held_out.to_json(),
            "runs": [record.to_json() for record in self.runs],
            "cost": [asdict(cost) for cost in self.costs],
            "summary": [asdict(summary) for summary in self.summaries],
        }


@dataclass
class Damaged:
    """What of the two files cannot be used: a sentence per entry, that of ``results.csv`` with its line.

    Attributes:
        entries: Of ``results.json``: runs, costs and summaries.
        rows: Of ``results.csv``.
    """

    entries: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)


def write_files(results: Results, rows: Iterable[ScoreRow]) -> None:
    """Write both files into the folder of the benchmark."""
    write_table(results.study.folder / CSV_FILE, COLUMNS, (row.to_csv() for row in rows))
    write_json(results.study.folder / JSON_FILE, results.to_json())


def read_results(folder: Path) -> tuple[Results, list[ScoreRow], Damaged]:
    """Return what the two files in a folder hold: the results, and the rows of ``results.csv``.

    An entry of a list that is damaged is left out, and told in what is returned last.

    Raises:
        UserError: If there is no ``results.json``, or one of the files cannot be read or has another format.
    """
    path = folder / JSON_FILE
    if not path.exists() and not path.is_symlink():
        raise UserError(
            f"{folder} holds no {JSON_FILE}. Name the folder of a benchmark (its --out); nnunet-semisam benchmark "
            "writes the file before its first run, and again after every run."
        )
    content = read_object(path, REMEDY)
    if content.get("format") != FORMAT:
        raise UserError(f"{path} has format {shown(content.get('format'))}, this version reads {FORMAT}. {REMEDY}")
    damaged = Damaged()
    try:
        results = _parse(folder.resolve(), content, damaged)
    except RecordError as error:
        raise UserError(f"{path} cannot be read: {error} {REMEDY}") from error
    return results, list(_read_rows(folder / CSV_FILE, damaged)), damaged


def _parse(folder: Path, content: Mapping[str, Any], damaged: Damaged) -> Results:
    return Results(
        study=Study.from_json(folder, read_entry(object, content, "study"), "study"),
        baseline=read_entry(str, content, "baseline"),
        versions=read_entry(dict[str, str], content, "versions"),
        held_out=HeldOutCases.from_json(read_entry(object, content, "cases"), "cases"),
        runs=_usable(content, "runs", RunRecord.from_json, damaged),
        costs=_usable(content, "cost", TrainerCost.from_json, damaged),
        summaries=_usable(content, "summary", Summary.from_json, damaged),
    )


def _usable(content: Mapping[str, Any], name: str, read: Callable[[Any, str], T], damaged: Damaged) -> list[T]:
    """Return the entries of a list that can be read."""
    found = []
    for i, entry in enumerate(read_entry(list[object], content, name)):
        try:
            found.append(read(entry, f"{name}[{i}]"))
        except RecordError as error:
            damaged.entries.append(str(error))
    return found


def _read_rows(path: Path, damaged: Damaged) -> Iterable[ScoreRow]:
    for number, row in enumerate(read_table(path, COLUMNS, REMEDY, damaged.rows), start=2):
        try:
            yield ScoreRow.from_csv(row)
        except RecordError as error:
            damaged.rows.append(f"row {number}: {error}")
