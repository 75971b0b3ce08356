"""Executors with tasks that only write a file: order, GPUs, failures, jobs of submitit's local executor."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nnunet_semisam.benchmark import executors, measured, processes
from nnunet_semisam.errors import UserError


@dataclass(frozen=True)
class Note:
    """Writes where it ran."""

    folder: Path
    name: str
    seconds: float = 0.0

    def __call__(self, variables=None):
        time.sleep(self.seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / self.name).open("a") as file:
            file.write((variables or {}).get("CUDA_VISIBLE_DEVICES", "") + "\n")
        return "done"


@pytest.fixture
def told():
    return []


@pytest.fixture
def report(told):
    return lambda name, status: told.append((name, status))


def test_serial_keeps_the_order(tmp_path, report, told):
    executors.serial([Note(tmp_path, name) for name in "cab"], report)
    assert told == [("c", "done"), ("a", "done"), ("b", "done")]


def test_local_shares_gpus_out_and_runs_side_by_side(tmp_path, report, told):
    barrier = threading.Barrier(2, timeout=20)

    class Together(Note):
        def __call__(self, variables=None):
            barrier.wait()  # passes only if two run at once
            return super().__call__(variables)

    executors.local([Together(tmp_path, str(i)) for i in range(4)], report, workers=2, gpus=["3", "5"])
    assert sorted(told) == [(str(i), "done") for i in range(4)]
    assert {(tmp_path / str(i)).read_text().strip() for i in range(4)} == {"3", "5"}


def test_processes_without_gpus_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv(measured.THREADS, raising=False)
    assert executors._places(3, []) == [{measured.THREADS: "2"}] * 3
    assert executors._places(1, []) == [{}]
    assert executors._places(3, ["0", "1"])[2] == {"CUDA_VISIBLE_DEVICES": "0"}
    monkeypatch.setenv(measured.THREADS, "1")  # the user's own wish
    assert executors._places(3, []) == [{}] * 3


def test_threads_reach_nnunet():
    code = "from nnunet_semisam.benchmark import measured as m; m.limit_threads(); import multiprocessing as p; "
    code += "print(p.cpu_count())"
    environment = os.environ | {measured.THREADS: "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "7"


def test_submitit_carries_tasks_out_in_processes_of_their_own(tmp_path, report, told, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    tasks = [Note(tmp_path / name, name) for name in "ab"]
    executors.slurm(tasks, report, tmp_path / "jobs", {"timeout_min": 2}, cluster="local")
    assert sorted(told) == [("a", "done"), ("b", "done")]
    assert all((tmp_path / name / name).read_text() == "\n" for name in "ab")
    assert not list(tmp_path.glob("*/job.json"))


def test_a_job_that_ends_early_is_told_before_those_that_still_run(tmp_path, report, told, monkeypatch):
    monkeypatch.setattr(executors, "POLL_SECONDS", 0.01)

    @dataclass
    class Job:
        after: int

        def done(self):
            return len(told) >= self.after

        def result(self):
            return "done"

    tasks = [Note(tmp_path, name) for name in "abc"]
    executors._wait(tasks, {"a": Job(2), "b": Job(1), "c": Job(0)}, report)
    assert [name for name, _ in told] == ["c", "b", "a"]


@pytest.mark.parametrize(("state", "waits"), [("PENDING", True), ("RUNNING", True), ("TIMEOUT", False)])
def test_a_job_that_still_waits_or_runs_is_not_submitted_again(tmp_path, monkeypatch, state, waits):
    """A stand-in for SLURM's sacct says what became of job 7."""
    script = tmp_path / "sacct"
    script.write_text(f"#!/bin/sh\nprintf 'JobID|State|NodeList\\n7|{state}|node1\\n'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    task = Note(tmp_path / "a", "a")
    assert executors._job_that_runs(task, tmp_path / "jobs", "slurm") is None
    task.folder.mkdir()
    (task.folder / executors.JOB_FILE).write_text('{"cluster": "slurm", "job": "7"}')
    job = executors._job_that_runs(task, tmp_path / "jobs", "slurm")
    assert (job is not None) == waits
    assert job is None or job.job_id == "7"


@pytest.mark.parametrize(("options", "cluster"), [({}, "slurm"), ({"nonsense": 3}, "local"), ({"nodes": "a"}, "local")])
def test_missing_cluster_and_unknown_parameters_are_user_errors(tmp_path, report, monkeypatch, options, cluster):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch anywhere
    with pytest.raises(UserError, match=r"(?s)--slurm .*submitit's parameters"):
        executors.slurm([], report, tmp_path / "jobs", options, cluster=cluster)


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    with processes.lock(tmp_path) as first, processes.lock(tmp_path) as second:
        assert (first, second) == (True, False)
    with processes.lock(tmp_path) as later:
        assert later


def test_interrupted_command_is_ended_with_its_workers(tmp_path, monkeypatch):
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('ready', flush=True); time.sleep(60)"
    failures = []

    def run():
        failures.append(processes.run_logged([sys.executable, "-c", code], os.environ, tmp_path / "log"))

    thread = threading.Thread(target=run)
    thread.start()
    while "ready" not in processes.end_of(tmp_path / "log"):
        time.sleep(0.05)
    (process,) = processes._running
    monkeypatch.setattr(processes, "_stopping", threading.Event())
    processes.stop_all()
    thread.join(10)
    assert failures == [-signal.SIGKILL]
    assert processes.stopping()
    left = subprocess.run(["ps", "-s", str(process.pid), "-o", "stat="], capture_output=True, text=True, check=False)
    assert [state for state in left.stdout.split() if not state.startswith("Z")] == []
