"""Runs that were finished by hand: what is done is not repeated, and both result files say what was scored."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from small_dataset import NAME

from nnunet_semisam.benchmark import plan, results, results_files
from nnunet_semisam.benchmark.metrics import UNITS
from nnunet_semisam.benchmark.records import Score, ScoreStatus
from nnunet_semisam.benchmark.runs import PerformRun
from nnunet_semisam.io.locks import folder_lock
from nnunet_semisam.jobs.base import Status
from nnunet_semisam.runs.model_run import ModelRun

BASELINE, OURS = "nnUNetTrainerSupervised", "nnUNetTrainerMeanTeacher"
SETTINGS = {"num_epochs": 4, "num_iterations_per_epoch": 5}


def finish_training(study, run):
    """Write what a training leaves behind."""
    folder = study.folder_of(run)
    (folder / "attempts").mkdir(parents=True)
    (folder / "settings.yaml").write_text("num_epochs: 4\n")
    (folder / "trained.json").write_text(json.dumps({"settings": SETTINGS}))
    for number, (stage, seconds) in enumerate((("train", 1800), ("train", 3600), ("predict", 360))):
        content = attempt(stage=stage, seconds=seconds, peak_memory_bytes=10 * seconds)
        (folder / "attempts" / f"{stage}_{number:03d}.json").write_text(json.dumps(content))
    return folder


def attempt(**fields):
    """Return the content of a report of a start."""
    content = {"stage": "train", "seconds": 1, "peak_memory_bytes": 1, "peak_gpu_bytes": None, "gpu": None}
    content |= {"host": "h", "device": "cpu", "versions": {}, "variables": {}, "sam_fingerprints": []}
    return content | fields


def written(study):
    """Write the results of a benchmark and return the content of ``results.json``."""
    results.write_results(study)
    return json.loads((study.folder / "results.json").read_text())


def test_finished_stages_are_not_repeated(study, raw, monkeypatch):
    made = plan.begin(study())
    run = made.runs()[0]
    folder = finish_training(made, run)
    (folder / "predictions").mkdir()
    shutil.copy(raw / "labelsTs" / "t1_frame01.nii.gz", folder / "predictions")
    (folder / "error.json").write_text("{}")
    assert PerformRun(made, run).status() == Status.FAILED
    monkeypatch.setattr(ModelRun, "command", None)  # any command would be a TypeError
    assert PerformRun(made, run)() == Status.DONE
    scores = json.loads((folder / "scores.json").read_text())
    assert {s["metric"]: s["value"] for s in scores["t1_frame01"]}["dice"] == 1.0
    assert not (folder / "error.json").exists()


def test_run_that_another_process_has_is_left_alone(study):
    made = plan.begin(study())
    task = PerformRun(made, made.runs()[0])
    with folder_lock(task.folder, wait=False):
        assert task() == Status.BUSY
    assert task.status() == Status.NEW


def test_failing_training_is_recorded_with_the_end_of_its_log(study):
    """The plans of the small dataset hold no network, so nnU-Net's own command fails."""
    made = plan.begin(study())
    run = made.runs()[0]
    assert PerformRun(made, run)() == Status.FAILED
    error = json.loads((made.folder_of(run) / "error.json").read_text())
    assert (error["stage"], error["status"]) == ("train", 1)
    assert "Error" in error["log"]
    log = (made.folder_of(run) / "train.log").read_text()
    assert log.startswith(f"$ nnUNetv2_train {NAME} 2d 0 -tr {BASELINE} -p nnUNetPlans -device cpu\n")
    (attempt,) = (made.folder_of(run) / "attempts").iterdir()
    content = json.loads(attempt.read_text())
    assert content["finished"] is False
    assert content["device"] == "cpu"
    assert {"python", "nnunet-semisam", "torch", "nnunetv2"} <= set(content["versions"])


def predicted(study, raw, run):
    """Leave what a run leaves that has only to be scored."""
    folder = finish_training(study, run)
    (folder / "predictions").mkdir()
    shutil.copy(raw / "labelsTs" / "t1_frame01.nii.gz", folder / "predictions")
    return folder


def test_whatever_breaks_in_a_run_the_others_go_on(study, raw, monkeypatch):
    from nnunet_semisam.benchmark import metrics
    from nnunet_semisam.jobs import executors

    made = plan.begin(study("--folds", "0"))
    first, second = (predicted(made, raw, run) for run in made.runs())
    score_case, told = metrics.score_case, []

    def broken_once(prediction, label, dataset_json):
        if first in prediction.parents:
            raise RuntimeError("ITK ERROR: the label file is torn")
        return score_case(prediction, label, dataset_json)

    monkeypatch.setattr(metrics, "score_case", broken_once)
    executors.serial([PerformRun(made, run) for run in made.runs()], lambda name, state: told.append(state))
    assert told == [Status.FAILED, Status.DONE]
    log = json.loads((first / "error.json").read_text())["log"]
    assert log.endswith("RuntimeError: ITK ERROR: the label file is torn")
    assert "in broken_once" in log  # where it happened
    assert (second / "scores.json").is_file()


def test_unreadable_label_fails_its_run_alone(study, raw):
    made = plan.begin(study("--folds", "0"))
    folder = predicted(made, raw, made.runs()[0])
    label = raw / "labelsTs" / "t1_frame01.nii.gz"
    label.write_bytes(label.read_bytes()[:40])
    assert PerformRun(made, made.runs()[0])() == Status.FAILED
    assert "t1_frame01" in json.loads((folder / "error.json").read_text())["log"]


def test_results_are_written_after_every_run(study, raw, monkeypatch):
    """A benchmark that is killed in its second run has a report of the first."""
    from nnunet_semisam.commands import benchmark as command
    from nnunet_semisam.report.reading.benchmark_folder import GridCell, read_benchmark

    made = plan.begin(study("--folds", "0"))
    first, second = made.runs()
    predicted(made, raw, first)

    class Killed(PerformRun):
        def __call__(self, variables=None):
            raise KeyboardInterrupt

    args = SimpleNamespace(executor="serial")
    with pytest.raises(KeyboardInterrupt):
        command.execute(args, made, [PerformRun(made, first), Killed(made, second)])
    found = read_benchmark(made.folder)
    assert [run.status.value for run in found.runs] == ["done", "new"]
    assert found.summary(GridCell("2d", 1, BASELINE)).mean == 1.0


def score(metric, value, status="ok", label="a"):
    undefined = metric in ("hd95", "assd") and status != "ok"
    return {
        "label": label,
        "metric": metric,
        "value": None if undefined else value,
        "scored": 99.0 if undefined else value,
        "status": status,
        "unit": UNITS[metric],
    }


@pytest.fixture
def finished(study):
    """Two trainers and two seeds with eight cases of four patients; ours is better by 0.1, and misses one object."""
    made = plan.begin(study("--folds", "0", "--seeds", "0", "1"))
    for run in made.runs():
        folder, cases = finish_training(made, run), {}
        for patient in range(4):
            for frame in (1, 9):
                dice = 0.5 + 0.05 * patient + 0.01 * run.seed + 0.1 * (run.trainer == OURS)
                missed = run.trainer == OURS and (patient, frame, run.seed) == (0, 1, 1)
                numbers = dict.fromkeys(UNITS, 1.0) | {"dice": 0.0 if missed else dice}
                status = "missed" if missed else "ok"
                cases[f"q{patient}_frame{frame:02d}"] = [score(m, v, status) for m, v in numbers.items()]
        (folder / "scores.json").write_text(json.dumps(cases))
    return made


def cell(content, trainer, metric, label="mean"):
    (found,) = [c for c in content["summary"] if (c["trainer"], c["metric"], c["label"]) == (trainer, metric, label)]
    return found


def test_summary_by_hand(finished):
    content = written(finished)
    baseline, ours = cell(content, BASELINE, "dice"), cell(content, OURS, "dice")
    assert baseline["mean"] == pytest.approx(np.mean([0.5, 0.55, 0.6, 0.65]) + 0.005)
    assert (baseline["cases"], baseline["groups"], baseline["runs"]) == (8, 4, 2)
    assert baseline["run_means"] == pytest.approx([0.575, 0.585])
    assert baseline["difference"] is None
    assert ours["difference"]["mean"] == pytest.approx(0.1 - 0.61 / 2 / 8)  # a Dice of 0.61 lost in one of two seeds
    assert (ours["difference"]["groups"], ours["failures"]) == (4, 1)
    assert 0 < ours["difference"]["p"] <= 1


def test_a_missed_object_costs_distance(finished):
    content = written(finished)
    ours = cell(content, OURS, "hd95")
    assert ours["mean"] == pytest.approx((15 * 1.0 + 99.0) / 16)
    assert ours["difference"]["mean"] > 0


def test_files_hold_every_number_and_no_nan(finished):
    results.write_results(finished)
    text = (finished.folder / "results.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in results.json"))
    assert content["format"] == 1
    assert content["baseline"] == BASELINE
    assert content["cases"]["groups"]["q0_frame01"] == "q0"
    rows = list(csv.DictReader((finished.folder / "results.csv").open()))
    assert tuple(rows[0]) == results_files.COLUMNS
    assert len(rows) == 4 * 8 * 2 * len(UNITS)  # runs, cases, the label and the mean, metrics
    (missed,) = [r for r in rows if r["status"] == "missed" and (r["label"], r["metric"]) == ("a", "hd95")]
    assert (missed["value"], float(missed["scored"]), missed["unit"]) == ("", 99.0, "mm")
    assert (missed["trainer"], missed["seed"], missed["case"]) == (OURS, "1", "q0_frame01")


def test_cost_of_all_attempts_is_in_the_runs(finished):
    found = written(finished)["runs"][0]
    assert (found["train_hours"], found["predict_hours"], found["attempts"]) == (1.5, 0.1, 3)
    assert (found["peak_memory_bytes"], found["peak_gpu_bytes"], found["steps"]) == (36000, None, 20)
    assert found["training"].endswith(f"results/{NAME}/nnUNetTrainerSupervised__nnUNetPlans__2d/fold_0")


def test_hours_of_a_trainer_are_summed_over_runs_and_starts(finished):
    for path in finished.folder.glob("runs/*Teacher*seed_1/attempts/train_*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"gpu": "a GPU"}))
    cost = {one["trainer"]: one for one in written(finished)["cost"]}
    hours = {"train_hours": 3.0, "predict_hours": 0.2, "gpu_hours": 0}
    assert cost[BASELINE] == {"trainer": BASELINE, "runs": 2, **hours}
    assert (cost[OURS]["train_hours"], cost[OURS]["gpu_hours"]) == (3.0, 1.5)


def test_software_is_that_of_the_training_not_of_now(finished):
    """Two starts with one torch and a third with another; the fingerprint of SAM comes with the first round."""
    folder = finished.folder_of(finished.runs()[-1]) / "attempts"
    for index, (torch, weights) in enumerate((("2.8", []), ("2.8", ["w"]), ("2.9", ["w"]))):
        content = attempt(versions={"torch": torch}, sam_fingerprints=weights)
        (folder / f"train_{index:03d}.json").write_text(json.dumps(content))
    software = written(finished)["runs"][-1]["software"]
    assert [(one["versions"]["torch"], one["sam_fingerprints"]) for one in software] == [("2.8", ["w"]), ("2.9", ["w"])]


def test_unfinished_runs_are_named_and_only_matched_ones_compared(finished):
    run = next(r for r in finished.runs() if r.trainer == BASELINE and r.seed == 1)
    (finished.folder_of(run) / "scores.json").unlink()
    content = written(finished)
    assert [r["status"] for r in content["runs"]] == ["done", "started", "done", "done"]
    assert cell(content, OURS, "dice")["difference"]["mean"] == pytest.approx(0.1)  # seed 0 with seed 0 alone
    assert cell(content, OURS, "dice")["runs"] == 2


def test_mean_over_labels_leaves_absent_ones_out_and_keeps_the_worst_status():
    entries = [score("dice", 0.8, label="a"), score("dice", None, "absent", "b"), score("dice", 0.0, "missed", "c")]
    scores = results.with_mean([Score.from_json(entry) for entry in entries])
    (mean,) = [one for one in scores if (one.label, one.metric) == ("mean", "dice")]
    assert (mean.scored, mean.status) == (pytest.approx(0.4), ScoreStatus.MISSED)
