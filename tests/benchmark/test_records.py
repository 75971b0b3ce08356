"""Records keep their form on disk: reports and scripts of users read it."""

import json
import math
from dataclasses import asdict, replace

import pytest

from nnunet_semisam.benchmark import plan
from nnunet_semisam.benchmark.records import (
    CaseSet,
    Cost,
    Difference,
    HeldOutCases,
    HeldOutSet,
    Run,
    RunRecord,
    Score,
    ScoreRow,
    ScoreStatus,
    Summary,
    TrainerCost,
    UnlabeledImages,
    known,
)
from nnunet_semisam.benchmark.results_files import COLUMNS, Damaged, Results, read_results, write_files
from nnunet_semisam.io.typed_records import RecordError
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs.attempts import Attempt, Software

SOFTWARE = Software({"torch": "2.9"}, {"OMP_NUM_THREADS": "1"}, ["w"])
ATTEMPT = Attempt("train", 1.5, 10, None, None, "host", "cpu", SOFTWARE)
RUN = RunRecord(
    trainer="T",
    configuration="2d",
    fold=0,
    budget=3,
    seed=7,
    status=Status.DONE,
    error=None,
    steps=20,
    cost=Cost(1.0, 0.5, 0.0, 2, 10, None),
    gpu=None,
    host="host",
    device="cpu",
    software=[SOFTWARE],
    training="t",
    predictions="p",
)
SUMMARY = Summary(
    configuration="2d",
    budget=3,
    trainer="T",
    label="mean",
    metric="dice",
    unit="1",
    runs=1,
    run_means=[0.5],
    mean=0.5,
    low=None,
    high=None,
    cases=2,
    groups=1,
    failures=0,
    absent=0,
    difference=None,
)


def test_scores_are_flat_objects_and_are_read_as_they_were_written():
    score = Score("a", "hd95", None, 2.0, ScoreStatus.MISSED, "mm")
    content = json.loads(json.dumps(asdict(score)))
    assert content == {
        "label": "a",
        "metric": "hd95",
        "value": None,
        "scored": 2.0,
        "status": "missed",
        "unit": "mm",
    }
    assert Score.from_json(content) == score
    with pytest.raises(ValueError, match="lost"):
        Score.from_json(content | {"status": "lost"})


def test_reports_of_starts_are_flat_objects_and_are_read_as_they_were_written():
    content = json.loads(json.dumps(ATTEMPT.to_json()))
    assert content["versions"] == {"torch": "2.9"}
    assert "software" not in content
    assert Attempt.from_json({**content, "started": "now", "finished": True}) == ATTEMPT
    del content["seconds"]
    with pytest.raises(RecordError, match="'seconds' is missing"):
        Attempt.from_json(content)


def test_rows_of_scores_are_read_as_they_were_written():
    score = Score("a", "hd95", None, 0.1 + 0.2, ScoreStatus.MISSED, "mm")
    row = ScoreRow(Run("T", "2d", 0, 3, 7), "q0_frame01", "q0", score)
    content = row.to_csv()
    assert (content["run"], content["value"], content["scored"]) == (row.run.name, "", "0.30000000000000004")
    assert content.keys() == set(COLUMNS)
    assert ScoreRow.from_csv(content) == row


def test_runs_are_flat_objects_and_are_read_as_they_were_written():
    content = json.loads(json.dumps(RUN.to_json()))
    assert content["run"] == "T__2d__fold_0__seed_7"
    assert (content["status"], content["seed"], content["train_hours"], content["attempts"]) == ("done", 7, 1.0, 2)
    assert content["software"] == [
        {"versions": {"torch": "2.9"}, "variables": {"OMP_NUM_THREADS": "1"}, "sam_fingerprints": ["w"]}
    ]
    assert "cost" not in content
    assert RunRecord.from_json(content) == RUN
    with pytest.raises(ValueError, match="lost"):
        RunRecord.from_json(content | {"status": "lost"})


def test_numbers_that_do_not_exist_are_null():
    assert (known(math.nan), known(None), known(0)) == (None, None, 0.0)
    difference = Difference(mean=0.1, low=None, high=None, cases=1, groups=1, p=None, pairs=1)
    summary = replace(SUMMARY, run_means=[0.5, None], difference=difference)
    content = json.loads(json.dumps(asdict(summary)))
    assert (content["mean"], content["low"], content["run_means"]) == (0.5, None, [0.5, None])
    assert content["difference"] == {
        "mean": 0.1,
        "low": None,
        "high": None,
        "cases": 1,
        "groups": 1,
        "p": None,
        "pairs": 1,
    }
    assert Summary.from_json(content) == summary
    assert Summary.from_json(content | {"difference": None}).difference is None


def test_results_are_read_as_they_were_written(study):
    made = plan.begin(replace(study(), unlabeled=UnlabeledImages(2, "u")))
    written = Results(
        study=made,
        baseline=plan.BASELINE,
        versions={"torch": "2.9"},
        held_out=HeldOutCases(CaseSet.VAL, {0: "held_out/val_fold_0"}, {"q0_frame01": "q0"}),
        runs=[RUN, replace(RUN, status=Status.FAILED, error="why", steps=None)],
        costs=[TrainerCost("T", 1, 1.0, 0.5, 0.0)],
        summaries=[SUMMARY],
    )
    row = ScoreRow(Run("T", "2d", 0, 3, 7), "q0_frame01", "q0", Score("a", "dice", 0.5, 0.5, ScoreStatus.OK, "1"))
    write_files(written, [row])
    assert read_results(made.folder) == (written, [row], Damaged())


def test_later_software_continues_earlier_if_only_more_is_known():
    assert SOFTWARE.continues(replace(SOFTWARE, sam_fingerprints=[]))
    assert not replace(SOFTWARE, sam_fingerprints=[]).continues(SOFTWARE)
    assert not replace(SOFTWARE, versions={"torch": "2.10"}).continues(SOFTWARE)


def test_changes_of_held_out_cases_are_told_by_kind():
    before = HeldOutSet({"a": "1", "b": "2", "c": "3"})
    assert before.changes(HeldOutSet({"b": "2", "c": "4", "d": "5"})) == "new: d; gone: a; other files: c"
    assert before.changes(before) == ""


def test_a_benchmark_is_read_as_it_was_written(study):
    made = replace(study(), held_out={"test": HeldOutSet({"t1": "d"})}, unlabeled=UnlabeledImages(2, "u"))
    made = plan.begin(made)
    assert plan.load_study(made.folder) == made
    content = json.loads((made.folder / plan.STUDY_FILE).read_text())
    assert content["held_out"] == {"test": {"t1": "d"}}
    assert content["unlabeled"] == {"cases": 2, "sha256": "u"}
    assert content["folds"]["0"].keys() == {"budget", "sha256"}
    assert "folder" not in content


def test_the_worst_status_is_named_first():
    """Means over labels have the worst status of their labels."""
    assert [status.value for status in ScoreStatus] == ["no prediction", "missed", "invented", "ok", "absent"]
