"""Tasks as jobs: submitit's own local executor, and a stand-in for what SLURM's commands say."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from little_tasks import Long, Note, alive

from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs import cluster, cluster_job
from nnunet_semisam.jobs.base import Job, Status, TaskError


@pytest.fixture
def python_path(monkeypatch):
    """Jobs find the package and the tasks of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))


def wait_until(true, what, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def start_of(task, number):
    """Return what a task wrote at one of its starts, as soon as its command runs."""
    wait_until((task.folder / f"command_{number}").exists, f"start number {number}")
    return json.loads((task.folder / f"start_{number}.json").read_text())


def test_an_interrupted_job_ends_its_training_and_goes_on_in_its_next_start(tmp_path, report, told, python_path):
    """The job has its signal alone, then after its training, as on a cluster, which signals all processes of a job."""
    task = Long(tmp_path / "a", "a", starts=3)
    options = {"timeout_min": 2}
    waiting = threading.Thread(
        target=lambda: cluster.slurm([task], report, tmp_path / "jobs", options, cluster="local"), daemon=True
    )
    waiting.start()
    first = start_of(task, 0)
    controller = int(json.loads((task.folder / cluster.JOB_FILE).read_text())["job"])
    try:
        os.kill(first["job"], signal.SIGUSR2)
        second = start_of(task, 1)
        os.kill(task.command(1), signal.SIGUSR2)
        wait_until(lambda: not alive(task.command(1)), "end of the second training")
        os.kill(second["job"], signal.SIGUSR2)
        waiting.join(60)
    finally:
        for process in {controller, *(json.loads(p.read_text())["job"] for p in task.folder.glob("start_*.json"))}:
            if alive(process):
                os.kill(process, signal.SIGKILL)
    assert told == [("a", "done")]
    starts = [json.loads((task.folder / f"start_{number}.json").read_text()) for number in range(3)]
    assert [start["still_running"] for start in starts] == [[], [], []]
    assert [start["locked"] for start in starts] == [True, True, True]
    assert len({start["job"] for start in starts}) == 3


def test_a_training_that_was_signaled_in_a_job_that_was_not_goes_on(monkeypatch):
    monkeypatch.setattr(cluster_job, "SIGNAL_SECONDS", 0.0)
    statuses = [Status.STARTED, Status.STARTED, Status.DONE]
    assert cluster_job.Submitted(lambda: statuses.pop(0))() == Status.DONE
    assert cluster_job.Submitted(lambda: Status.STARTED)() == Status.STARTED  # not for ever


def test_submitit_carries_tasks_out_in_processes_of_their_own(tmp_path, report, told, python_path):
    tasks = [Note(tmp_path / name, name) for name in "ab"]
    cluster.slurm(tasks, report, tmp_path / "jobs", {"timeout_min": 2}, cluster="local")
    assert sorted(told) == [("a", "done"), ("b", "done")]
    assert all((tmp_path / name / name).read_text() == "\n" for name in "ab")
    assert not list(tmp_path.glob("*/job.json"))


def test_a_job_that_ends_early_is_told_before_those_that_still_run(tmp_path, report, told, monkeypatch):
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)

    @dataclass
    class Job:
        after: int

        def done(self):
            return len(told) >= self.after

        def result(self):
            return Status.DONE

    tasks = [Note(tmp_path, name) for name in "abc"]
    cluster._wait(tasks, {"a": Job(2), "b": Job(1), "c": Job(0)}, report)
    assert [name for name, _ in told] == ["c", "b", "a"]


@pytest.mark.parametrize(("options", "where"), [({}, "slurm"), ({"nonsense": 3}, "local"), ({"nodes": "a"}, "local")])
def test_missing_cluster_and_unknown_parameters_are_user_errors(tmp_path, report, monkeypatch, options, where):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch anywhere
    with pytest.raises(UserError, match=r"(?s)--slurm .*submitit's parameters"):
        cluster.slurm([], report, tmp_path / "jobs", options, cluster=where)


def test_tasks_that_need_the_same_are_one_array(tmp_path):
    def job(name, **resources):
        return Job(name, tmp_path / name, ("true",), tmp_path / "result", resources=resources)

    tasks = [job("a"), job("b", mem_gb=64), Note(tmp_path / "c", "c"), job("d", mem_gb=4)]
    assert [(dict(needs), [task.name for task in group]) for needs, group in cluster._by_needs(tasks)] == [
        ({}, ["a", "c"]),
        ({"mem_gb": 64}, ["b"]),
        ({"mem_gb": 4}, ["d"]),
    ]


def test_what_a_task_needs_is_asked_for_on_top_of_what_all_need(tmp_path, report, told, python_path):
    tasks = [
        Job(
            name, tmp_path / name, ("touch", str(tmp_path / name / "out")), tmp_path / name / "out", resources=resources
        )
        for name, resources in (("a", {}), ("b", {"timeout_min": 3}))
    ]
    cluster.slurm(tasks, report, tmp_path / "jobs", {"timeout_min": 2}, cluster="local")
    assert sorted(told) == [("a", Status.DONE), ("b", Status.DONE)]


JOBS = ["", "{", "[]", "{}", '{"cluster": "local"}', '{"cluster": "local", "job": "../7"}']


@pytest.mark.parametrize("content", JOBS)
def test_a_torn_record_of_a_job_is_named_with_its_remedy(tmp_path, report, content):
    task = Note(tmp_path / "a", "a")
    task.folder.mkdir()
    (task.folder / cluster.JOB_FILE).write_text(content)
    if content == "{}":  # of no cluster that we know: nothing runs
        assert cluster._job_that_runs(task, tmp_path / "jobs", "local") is None
        return
    with pytest.raises(UserError, match=r"a/job\.json .*If no job of this task runs any more, delete that file"):
        cluster._job_that_runs(task, tmp_path / "jobs", "local")


def test_a_torn_result_of_a_job_fails_its_task_alone(tmp_path):
    class Torn:
        job_id = "7"
        state = "COMPLETED"
        paths = SimpleNamespace(stderr=tmp_path / "none")

        def result(self):
            raise EOFError("Ran out of input")

    task = Note(tmp_path / "a", "a")
    task.folder.mkdir()
    assert cluster._outcome(task, Torn()) == Status.FAILED
    assert "ended without a result" in TaskError.read(task.folder).log
    task.work({})
    assert cluster._outcome(task, Torn()) == Status.DONE  # its own folder says more than the job does
