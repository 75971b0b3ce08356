"""The whole benchmark on the tiny dataset: killed in its first training, started again, with stock nnU-Net commands."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_nnunet

from nnunet_semisam import cli
from nnunet_semisam.benchmark import equal_time, plan
from nnunet_semisam.benchmark.records import Equal
from nnunet_semisam.data.datasets import open_dataset

CHECKOUT = Path(__file__).parents[2]
SETTINGS = "num_epochs: 3\nnum_iterations_per_epoch: 2\nnum_val_iterations_per_epoch: 1\n"


@pytest.fixture
def dataset(tiny_dataset, monkeypatch):
    """The tiny dataset with a test case, which has the image of no other case."""
    raw = tiny_dataset / "raw" / tiny_nnunet.DATASET
    image, label = tiny_nnunet.volume(77)
    tiny_nnunet.write(image.astype("float32"), raw / "imagesTs" / "held_0000.nii.gz")
    tiny_nnunet.write(label, raw / "labelsTs" / "held.nii.gz")
    for name, value in {"nnUNet_npp": "0", "nnUNet_nps": "0", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    (tiny_dataset / "settings.yaml").write_text(SETTINGS)
    return tiny_dataset


def command(dataset: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "nnunet_semisam.cli", "benchmark", "-d", str(tiny_nnunet.DATASET_ID), "-c", "2d"]
    words += ["-o", str(dataset / "out"), "--labeled", "2", "--device", "cpu", "-np", "1"]
    return [*words, "--settings", str(dataset / "settings.yaml"), *more]


def wait_for(path: Path, process: subprocess.Popen, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the benchmark ended before it was killed"
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def alive(session: int) -> bool:
    """Whether a process of that session is left (zombies are not)."""
    states = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True, text=True, check=False)
    return any(not state.startswith("Z") for state in states.stdout.split())


@pytest.mark.slow
def test_killed_benchmark_goes_on_repeats_nothing_and_reports_every_case(dataset):
    run = dataset / "out" / "runs" / "nnUNetTrainerSupervised__2d__fold_0__seed_0"
    fold = run / "results" / tiny_nnunet.DATASET / "nnUNetTrainerSupervised__nnUNetPlans__2d" / "fold_0"
    words = command(dataset, "--trainers", "nnUNetTrainerSupervised")
    log = (dataset / "log").open("w")
    process = subprocess.Popen(words, stdout=log, stderr=log)
    wait_for(fold / "checkpoint_latest.pth", process, 120)
    children = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "trained.json").exists()
    end = time.monotonic() + 15
    while any(alive(int(child)) for child in children.stdout.split()):
        assert time.monotonic() < end, "a training outlived its benchmark"
        time.sleep(0.1)

    assert cli.main(words[3:]) == 0, (run / "train.log").read_text()[-3000:]
    first, second = [line for line in (run / "train.log").read_text().splitlines() if line.startswith("$ ")]
    assert not first.endswith("--c")
    assert second.endswith("--c")
    times = {path: path.stat().st_mtime_ns for path in (dataset / "out" / "runs").rglob("*.pth")}

    results = json.loads((dataset / "out" / "results.json").read_text())
    (found,) = results["runs"]
    assert (found["status"], found["attempts"], found["steps"]) == ("done", 3, 6)  # two starts and a prediction
    assert min(found["train_hours"], found["predict_hours"]) > 0
    assert found["peak_memory_bytes"] > 1e8
    assert (dataset / "out" / found["training"] / "checkpoint_final.pth").is_file()
    assert (dataset / "out" / found["predictions"] / "held.nii.gz").is_file()
    (cell,) = [c for c in results["summary"] if (c["label"], c["metric"]) == ("mean", "dice")]
    assert (cell["cases"], cell["difference"]) == (1, None)
    rows = list(csv.DictReader((dataset / "out" / "results.csv").open()))
    assert len(rows) == 1 * 3 * 5  # cases, labels with their mean, metrics
    assert {row["case"] for row in rows} == {"held"}

    assert cli.main(words[3:]) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_step_time_is_measured_with_every_term_switched_on(dataset):
    planned = open_dataset(str(tiny_nnunet.DATASET_ID), tiny_nnunet.PLANS)
    study = plan.Study(
        folder=dataset / "out",
        dataset=tiny_nnunet.DATASET,
        plans=tiny_nnunet.PLANS,
        plans_sha256="",
        trainers=["nnUNetTrainerMeanTeacher"],
        configurations=["2d"],
        folds=plan.choose_folds(planned, None, [0]),
        seeds=[0],
        settings={"num_iterations_per_epoch": 3, "num_epochs": 9},
        equal=Equal.TIME,
        device="cpu",
    )
    (task,) = equal_time.measurements(study)
    assert task() == "done", (task.folder / "timing.log").read_text()[-3000:]
    assert 0 < equal_time.seconds_per_step(study, "nnUNetTrainerMeanTeacher", "2d") < 60
    log = next(task.folder.rglob("semisam_log.csv")).read_text()
    rows = list(csv.DictReader(log.splitlines()))
    assert all(float(row["unlabeled_loss"]) > 0 for row in rows)
    assert len(rows) == 2
    assert not list(task.folder.rglob("*.pth"))
