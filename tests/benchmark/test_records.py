"""Records keep their form on disk: reports and scripts of users read it."""

import json
import math
from dataclasses import replace

import pytest

from nnunet_semisam.benchmark import plan
from nnunet_semisam.benchmark.records import (
    Attempt,
    Cost,
    Difference,
    HeldOutSet,
    Run,
    RunRecord,
    Score,
    ScoreStatus,
    Software,
    Summary,
    UnlabeledImages,
    without_nan,
)
from nnunet_semisam.jobs.base import Status

SOFTWARE = Software({"torch": "2.9"}, {"OMP_NUM_THREADS": "1"}, ["w"])
ATTEMPT = Attempt("train", 1.5, 10, None, None, "host", "cpu", SOFTWARE)
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
    low=math.nan,
    high=math.nan,
    cases=2,
    groups=1,
    failures=0,
    absent=0,
    difference=None,
)


def test_scores_are_flat_objects_and_are_read_as_they_were_written():
    score = Score("a", "hd95", 1.0, 2.0, ScoreStatus.MISSED, "mm")
    content = json.loads(json.dumps(without_nan(score)))
    assert content == {
        "label": "a",
        "metric": "hd95",
        "value": 1.0,
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
    with pytest.raises(KeyError):
        Attempt.from_json(content)


def test_runs_are_flat_objects():
    cost = Cost(1.0, 0.5, 0.0, 2, 10, None)
    record = RunRecord(Run("T", "2d", 0, 3, 7), Status.DONE, None, 20, cost, None, "host", "cpu", [SOFTWARE], "t", "p")
    content = json.loads(json.dumps(record.to_json()))
    assert content["run"] == "T__2d__fold_0__seed_7"
    assert (content["status"], content["seed"], content["train_hours"], content["attempts"]) == ("done", 7, 1.0, 2)
    assert content["software"] == [
        {"versions": {"torch": "2.9"}, "variables": {"OMP_NUM_THREADS": "1"}, "sam_fingerprints": ["w"]}
    ]
    assert "cost" not in content


def test_numbers_that_do_not_exist_are_null():
    difference = Difference(mean=0.1, low=math.nan, high=math.nan, cases=1, groups=1, p=math.nan, pairs=1)
    content = without_nan([replace(SUMMARY, difference=difference), {"a": (math.nan, 1)}])
    assert (content[0]["mean"], content[0]["low"]) == (0.5, None)
    assert content[0]["difference"] == {
        "mean": 0.1,
        "low": None,
        "high": None,
        "cases": 1,
        "groups": 1,
        "p": None,
        "pairs": 1,
    }
    assert content[1] == {"a": [None, 1]}


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
