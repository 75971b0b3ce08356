"""What a power cut tears blocks no start, and two benchmarks in one folder lose nothing of each other."""

import json
import threading
import zipfile
from dataclasses import replace

import pytest
import yaml
from test_runs_and_results import OURS, finish_training, score, written

from nnunet_semisam import cli
from nnunet_semisam.benchmark import equal_time, plan, preflight, results
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.runs import PerformRun, settings_of
from nnunet_semisam.commands import benchmark as command
from nnunet_semisam.errors import UserError
from nnunet_semisam.io import json_files
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs import measured
from nnunet_semisam.runs.model_run import ModelRun

TORN = ["", '{"stage": "tr', "null", "{}"]


def finish(study):
    """Write what all runs of a benchmark leave behind."""
    for run in study.runs():
        if not (folder := study.folder_of(run)).exists():
            finish_training(study, run)
            (folder / "scores.json").write_text(json.dumps({"t1_frame01": [score(m, 0.5) for m in UNITS]}))


@pytest.mark.parametrize("content", TORN)
def test_a_torn_report_of_a_start_costs_its_hours_and_nothing_else(study, content):
    made = plan.begin(study("--folds", "0"))
    finish(made)
    (made.folder_of(made.runs()[0]) / "attempts" / "train_001.json").write_text(content)
    first, second = written(made)["runs"]
    assert (first["status"], first["attempts"], first["train_hours"]) == ("done", 2, 0.5)
    assert (second["attempts"], second["train_hours"]) == (3, 1.5)


def test_a_torn_error_is_no_reason_to_fail(study):
    made = plan.begin(study("--folds", "0"))
    (finish_training(made, made.runs()[0]) / "error.json").write_text("")
    assert written(made)["runs"][0]["error"] is None


@pytest.mark.parametrize("content", ["", '{"t1', "[]", '{"t1": 5}', '{"t1": [{}]}', '{"t1": [{"label": 1}]}'])
def test_torn_scores_are_made_again(study, content):
    made = plan.begin(study("--folds", "0"))
    task = PerformRun(made, made.runs()[0])
    (finish_training(made, task.run) / "scores.json").write_text(content)
    assert not task.finished()
    assert written(made)["runs"][0]["status"] != "done"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"settings": 5}', '{"settings": {"num_epochs": "4"}}'])
def test_a_torn_record_of_a_finished_training_is_made_again(study, content):
    made = plan.begin(study("--folds", "0"))
    task = PerformRun(made, made.runs()[0])
    folder = finish_training(made, task.run)
    (folder / "scores.json").write_text("{}")
    assert task.finished()
    (folder / "trained.json").write_text(content)
    assert not task.finished()


@pytest.fixture
def training(study, monkeypatch):
    """A run whose commands are recorded and do nothing."""
    made = plan.begin(study("--folds", "0"))
    task = PerformRun(made, made.runs()[0])
    task.training_folder.mkdir(parents=True)
    commands: list[list[str]] = []
    monkeypatch.setattr(processes, "run_checked", lambda words, *more, **options: commands.append(list(words)))
    return task, commands


def train(task):
    task.model.train(settings_of(task.study, task.run), {})


@pytest.mark.parametrize("content", ["", "num_epochs: [", "num_epochs: 99"])
def test_settings_of_a_run_without_checkpoints_are_those_of_the_benchmark(training, content):
    task, _ = training
    task.model.settings_file.write_text(content)
    train(task)
    assert yaml.safe_load(task.model.settings_file.read_text())["num_epochs"] == task.study.settings["num_epochs"]


@pytest.mark.parametrize("left", ["no folder", "a file", "an empty folder"])
def test_predictions_that_were_lost_are_made_again(training, monkeypatch, left):
    task, commands = training
    (task.folder / "trained.json").write_text(
        json.dumps({"settings": {"num_epochs": 1, "num_iterations_per_epoch": 1}})
    )
    if left == "a file":
        task.predictions.touch()
    elif left == "an empty folder":
        task.predictions.mkdir()
    monkeypatch.setattr(PerformRun, "_score", lambda self: None)
    task.work({})
    assert [words[4] for words in commands] == ["predict"]


def test_settings_that_a_training_began_with_stay(training):
    task, commands = training
    with zipfile.ZipFile(task.training_folder / "checkpoint_latest.pth", "w") as file:
        file.writestr("a", "b")
    task.model.settings_file.write_text("num_epochs: 99\nnum_iterations_per_epoch: 2\n")
    train(task)
    assert task.steps() == 198
    assert commands[0][-1] == "--c"


def test_torn_checkpoints_are_set_aside_and_the_whole_one_is_taken(training):
    task, commands = training
    folder = task.training_folder
    with zipfile.ZipFile(folder / "checkpoint_best.pth", "w") as file:
        file.writestr("a", "b")
    (folder / "checkpoint_final.pth").write_bytes((folder / "checkpoint_best.pth").read_bytes()[:-5])
    (folder / "checkpoint_latest.pth").touch()
    train(task)
    assert commands[0][-1] == "--c"
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoint_best.pth", "checkpoint_final.pth.damaged", "checkpoint_latest.pth.damaged"}
    assert (task.folder / "train.log").read_text().count("is torn and was renamed") == 2


@pytest.mark.parametrize("content", TORN)
def test_torn_step_time_is_measured_again_and_a_whole_one_is_not(study, content, monkeypatch):
    made = plan.begin(study("--folds", "0", "--equal", "time"))
    first, second = equal_time.measurements(made)
    for task in (first, second):
        task.folder.mkdir(parents=True)
    first.report.write_text(json.dumps({"seconds_per_step": 0.5}))
    second.report.write_text(content)
    assert equal_time.measurements(made) == [second]
    with pytest.raises(UserError, match=r"could not be measured.*Start again"):
        equal_time.seconds_per_step(made, second.trainer, "2d")

    def measure(words, environment, log):
        second.report.write_text(json.dumps({"seconds_per_step": 0.25}))
        return 0

    monkeypatch.setattr(processes, "run_logged", measure)
    assert second() == Status.DONE
    assert equal_time.measurements(made) == []
    assert equal_time.epochs_of(made, made.runs()[-1]) == 2000


def test_reports_of_starts_reach_the_disk_before_they_get_their_name(tmp_path, monkeypatch):
    synced, names = [], []
    monkeypatch.setattr(json_files.os, "fsync", lambda number: synced.append(list(tmp_path.glob("train*"))))
    with measured.Meter(tmp_path / "train_000.json", "train", "cpu"):
        names = [path.name for path in tmp_path.iterdir()]
    assert synced[0] == []
    assert names == ["train_000.json"]
    assert json.loads((tmp_path / "train_000.json").read_text())["finished"] is True


def test_who_ends_last_keeps_the_runs_that_another_benchmark_added(study):
    first = plan.begin(study("--folds", "0"))
    second = plan.begin(study("--folds", "0", "--seeds", "0", "1"))
    finish(second)
    results.write_results(second)
    content = written(first)
    assert {run["run"] for run in content["runs"]} == {run.name for run in second.runs()}
    assert (content["study"]["seeds"], len(content["runs"])) == ([0, 1], 4)


def held(study, work, meanwhile):
    """Do something while another process holds the folder, and return whether it waited for that."""
    thread = threading.Thread(target=work)
    with folder_lock(study.folder, wait=False) as mine:
        assert mine
        thread.start()
        thread.join(0.5)
        waited = thread.is_alive()
        meanwhile()
    thread.join(30)
    return waited and not thread.is_alive()


def test_two_that_begin_at_the_same_moment_keep_the_runs_of_both(study):
    first, second = study("--folds", "0", "--seeds", "1"), study("--folds", "0", "--seeds", "2")

    def begin_first():
        (first.folder / plan.STUDY_FILE).write_text(json.dumps(first.to_json()))

    assert held(first, lambda: plan.begin(second), begin_first)
    assert plan.load_study(first.folder).seeds == [1, 2]


def test_results_hold_all_that_was_done_when_it_was_their_turn(study):
    made = plan.begin(study("--folds", "0"))
    assert held(made, lambda: results.write_results(made), lambda: finish(made))
    content = json.loads((made.folder / "results.json").read_text())
    assert [run["status"] for run in content["runs"]] == ["done", "done"]


def test_runs_of_another_benchmark_are_no_failure_of_this_one(raw, tmp_path, monkeypatch, capsys):
    def train(args, mine, to_do):
        finish(mine)
        plan.begin(replace(mine, seeds=[1]))  # as another command would

    monkeypatch.setattr(command, "execute", train)
    words = ["benchmark", "-d", "3", "-c", "2d", "--trainers", OURS, "--device", "cpu", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(preflight, "check_runs", lambda *of_study: [])  # the small dataset has no network to train
    assert cli.main([*words, "--folds", "0", "-np", "1"]) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [run["status"] for run in content["runs"]] == ["done", "new"] * 2  # the baseline's two seeds, then ours


def test_what_a_signal_raises_in_a_run_is_no_error_of_the_run(study, monkeypatch):
    """submitit's handler raises in the midst of a run when its job has run out of time for the last time."""
    made = plan.begin(study("--folds", "0"))
    run = made.runs()[0]
    monkeypatch.setattr(processes, "_stopping", threading.Event())

    def interrupted(*of_run, **more):
        processes.stop_all()
        raise RuntimeError("timed-out too many times")

    monkeypatch.setattr(ModelRun, "train", interrupted)
    with pytest.raises(RuntimeError, match="timed-out"):
        PerformRun(made, run)()
    assert not (made.folder_of(run) / "error.json").exists()
