"""A row of self-training: all its trainings are one run, with the steps of the others and the same held-out scores."""

import json
import shutil

import pytest
import yaml
from test_runs_and_results import BASELINE, attempt, written

from nnunet_semisam.benchmark import plan
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.benchmark.trainers import Recipe, recipe_of
from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs.model_run import ModelRun
from nnunet_semisam.self_training import tasks

ROW = "SelfTraining2_nnUNetTrainerMeanTeacher"
FIRST = "nnUNetTrainerMeanTeacher"


@pytest.fixture
def row(study, raw, monkeypatch, tmp_path):
    """The run of a row whose commands leave what nnU-Net's would; what they were called with is on record."""
    (tmp_path / "length.yaml").write_text("num_epochs: 8\nnum_iterations_per_epoch: 5\n")
    made = plan.begin(study("--folds", "0", "--settings", str(tmp_path / "length.yaml"), trainers=(ROW,)))
    run = next(run for run in made.runs() if run.trainer == ROW)
    called = []

    def command(model, stage, arguments, variables):
        called.append((stage, list(arguments)))
        folder = model.folder / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage}_000.json").write_text(json.dumps(attempt(stage=stage, seconds=3600)))
        if stage == "predict":
            out = arguments[arguments.index("-o") + 1]
            shutil.copy(raw / "labelsTs" / "t1_frame01.nii.gz", out)

    def label(stage, entry, arguments, folder, environment, title):
        called.append((title, list(arguments)))
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        (folder / "attempts" / "label_000.json").write_text(json.dumps(attempt(stage=stage, seconds=1800)))

    monkeypatch.setattr(ModelRun, "command", command)
    monkeypatch.setattr(tasks, "run_measured", label)
    return PerformRun(made, run), called


def test_the_name_of_a_row_says_who_begins_and_how_many_rounds_there_are():
    assert recipe_of("SelfTraining12_nnUNetTrainerCPS") == Recipe("nnUNetTrainerCPS", 12)
    assert recipe_of("SelfTraining0_nnUNetTrainerCPS").rounds == 0
    assert recipe_of("nnUNetTrainerCPS").rounds == 0


def test_all_trainings_of_a_row_have_the_steps_of_one_other_training(row):
    task, called = row
    assert task() == Status.DONE
    lengths = [yaml.safe_load(path.read_text())["num_epochs"] for path in sorted(task.folder.rglob("settings.yaml"))]
    assert lengths == [2, 2, 4]
    assert task.steps() == 8 * 5
    assert [name for name, _ in called] == [
        "train",
        *["label_pool", "build_dataset", "train"] * 2,
        "predict",
    ]
    trainers = [words[words.index("-tr") + 1] for name, words in called if name in ("train", "predict")]
    assert trainers == [FIRST, BASELINE, BASELINE, BASELINE]


def test_the_results_hold_the_row_with_the_cost_of_all_its_trainings(row):
    task, _ = row
    task()
    (record,) = (record for record in written(task.study)["runs"] if record["trainer"] == ROW)
    assert (record["status"], record["steps"]) == ("done", 40)
    assert record["train_hours"] == pytest.approx(3 * 1 + 4 * 0.5)
    assert record["predict_hours"] == pytest.approx(1)
    assert "self_training/round_2" in record["training"]


def test_a_row_that_has_not_begun_or_is_torn_is_not_done(row):
    task, _ = row
    assert (task.status(), task.steps()) == (Status.NEW, None)
    assert written(task.study)["runs"][-1]["status"] == "new"
    task()
    (task.folder / "self_training" / "self_training.json").write_text("{")
    assert not task.finished()


def test_what_is_done_of_a_row_is_not_repeated(row):
    task, called = row
    task()
    before = len(called)
    (task.folder / "scores.json").unlink()
    assert task() == Status.DONE
    assert len(called) == before + 4  # the fakes of labelling leave no labels; nothing is trained again
    assert "train" not in [name for name, _ in called[before:]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (ROW, ["--equal", "time"], "--equal steps"),
        ("SelfTraining99_nnUNetTrainerCPS", ["--settings"], "Give more epochs"),
        ("SelfTraining2_nnUNetTrainerNobody", [], "no such trainer"),
    ],
)
@pytest.mark.usefixtures("search_here")
def test_rows_that_cannot_be_trained_are_refused(study, tmp_path, name, options, message):
    (tmp_path / "length.yaml").write_text("num_epochs: 4\n")
    options = [*options, str(tmp_path / "length.yaml")] if options == ["--settings"] else options
    with pytest.raises(UserError, match=message):
        study(*options, trainers=(name,))
