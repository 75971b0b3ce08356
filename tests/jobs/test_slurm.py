"""Stand-ins for SLURM's commands say what became of jobs, or refuse them; submitit itself asks them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import submitit
from little_tasks import Note

from nnunet_semisam.errors import UserError
from nnunet_semisam.jobs import cluster, cluster_job

NO_ACCOUNTING = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
NO_SUCH_JOB = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
NO_ANSWER = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


def accounting(state, job="7"):
    return f"printf 'JobID|State|NodeList\\n{job}|{state}|node1\\n'"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that puts shell scripts in the place of SLURM's commands; none of the others are there."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), "/usr/bin", "/bin"]))
    (tmp_path / "bin").mkdir()
    submitit.SlurmJob.watcher.clear()

    def put(**scripts):
        for name, script in scripts.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "bin" / name).chmod(0o755)

    return put


def submitted(folder, job="7"):
    """Return a task that an earlier start submitted."""
    folder.mkdir()
    (folder / cluster.JOB_FILE).write_text(json.dumps({"cluster": "slurm", "job": job}))
    return Note(folder, folder.name)


@pytest.mark.parametrize(("state", "waits"), [("PENDING", True), ("RUNNING", True), ("TIMEOUT", False)])
def test_a_job_that_still_waits_or_runs_is_not_submitted_again(tmp_path, commands, state, waits):
    commands(sacct=accounting(state))
    assert cluster._job_that_runs(Note(tmp_path / "none", "none"), tmp_path / "jobs", "slurm") is None
    job = cluster._job_that_runs(submitted(tmp_path / "a"), tmp_path / "jobs", "slurm")
    assert (job is not None) == waits
    assert job is None or job.job_id == "7"


@pytest.mark.parametrize("sacct", [NO_ACCOUNTING, "printf 'JobID|State|NodeList\\n'"])
@pytest.mark.parametrize(
    ("squeue", "waits"),
    [
        ("echo '7_0 RUNNING'; echo '7_1 PENDING'", True),
        ("echo '7_0 RUNNING'; echo '7_1 CANCELLED'", False),
        ("echo '7_0 RUNNING'", False),
        (NO_SUCH_JOB, False),
    ],
)
def test_where_accounting_says_nothing_the_queue_is_asked(tmp_path, commands, sacct, squeue, waits):
    commands(sacct=sacct, squeue=squeue)
    task = submitted(tmp_path / "a", "7_1")
    assert (cluster._job_that_runs(task, tmp_path / "jobs", "slurm") is not None) == waits


@pytest.mark.parametrize("scripts", [{"squeue": NO_ANSWER}, {}])
def test_a_job_that_nothing_is_known_of_is_a_question_to_the_user(tmp_path, commands, scripts):
    commands(sacct=NO_ACCOUNTING, **scripts)
    message = (
        r"a/job\.json says that job 7 has a, and neither sacct nor squeue tells .* delete that file and start again"
    )
    with pytest.raises(UserError, match=message):
        cluster._job_that_runs(submitted(tmp_path / "a"), tmp_path / "jobs", "slurm")


def waited_for(task, folder, report, monkeypatch, job="7"):
    """Wait for a job of which no result comes; return what is written down of it."""
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cluster, "QUEUE_SECONDS", 0.02)
    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 0)
    found = submitit.SlurmJob(folder=folder, job_id=job)
    found.paths.folder.mkdir(parents=True, exist_ok=True)
    found.paths.stderr.write_text("a line\nslurmstepd: error: Detected 1 oom_kill event\n")
    cluster._wait([task], {task.name: found}, report)
    assert not (task.folder / cluster.JOB_FILE).exists()
    return json.loads((task.folder / "error.json").read_text())["log"].splitlines()


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("OUT_OF_MEMORY", "Start again to go on, with more memory for each job, for example --slurm mem_gb=64."),
        ("TIMEOUT", "Start again to go on, with more minutes for each job: --slurm timeout_min=..."),
        ("CANCELLED by 1000", "Start again to go on."),
    ],
)
def test_how_a_job_died_and_what_to_do_is_written_down(tmp_path, commands, report, told, monkeypatch, state, remedy):
    commands(sacct=accounting(state))
    *log, last = waited_for(submitted(tmp_path / "a"), tmp_path / "jobs", report, monkeypatch)
    assert told == [("a", "failed")]
    assert last == f"Job 7 ended without a result ({state.split()[0]}). {remedy}"
    assert log[-1] == "slurmstepd: error: Detected 1 oom_kill event"


def test_a_job_that_ran_out_of_time_too_often_says_so(tmp_path, commands, report, told, monkeypatch):
    """submitit raises in the job then, and the job's result is that error."""
    commands(sacct=accounting("COMPLETED"))
    task = submitted(tmp_path / "a")
    error = "Traceback\nUncompletedJobError: Job not requeued because: timed-out too many times."
    job = submitit.SlurmJob(folder=tmp_path / "jobs", job_id="7")
    job.paths.folder.mkdir()
    job.paths.result_pickle.write_bytes(pickle.dumps(("error", error)))
    *log, last = waited_for(task, tmp_path / "jobs", report, monkeypatch)
    assert "UncompletedJobError: Job not requeued because: timed-out too many times." in log
    assert last.endswith("(TIMEOUT). Start again to go on, with more minutes for each job: --slurm timeout_min=...")


def test_a_job_that_left_the_queue_without_accounting_is_not_waited_for(tmp_path, commands, report, told, monkeypatch):
    commands(sacct=NO_ACCOUNTING, squeue=NO_SUCH_JOB)
    last = waited_for(submitted(tmp_path / "a"), tmp_path / "jobs", report, monkeypatch)[-1]
    assert told == [("a", "failed")]
    assert last == "Job 7 ended without a result (UNKNOWN). Start again to go on."


def test_while_nothing_is_known_the_user_is_told_what_is_waited_for(tmp_path, commands, report, told, monkeypatch):
    commands(
        sacct=NO_ACCOUNTING, squeue=f"test -e {tmp_path}/asked && {{ {NO_SUCH_JOB}; }}; touch {tmp_path}/asked; exit 2"
    )
    with pytest.warns(UserWarning, match=r"Neither sacct nor squeue tells whether jobs still run \(7\).*delete their"):
        waited_for(submitted(tmp_path / "a"), tmp_path / "jobs", report, monkeypatch)


@pytest.mark.parametrize("count", [1, 2])  # a job, an array
def test_refused_jobs_are_a_user_error(tmp_path, commands, report, count):
    commands(
        srun="exit 0", sacct=NO_ACCOUNTING, sbatch="echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1"
    )
    tasks = [Note(tmp_path / name, name) for name in "ab"[:count]]
    options = {"timeout_min": 3, "slurm_partition": "gpu"}
    message = rf"--slurm timeout_min=3 slurm_partition=gpu: sbatch refused {count} jobs: .*invalid partition.* Correct"
    with pytest.raises(UserError, match=message):
        cluster.slurm(tasks, report, tmp_path / "jobs", options)
    assert not list(tmp_path.glob("*/job.json"))


def test_variables_of_nnunet_reach_a_job_that_starts_with_none(tmp_path, monkeypatch):
    """As on clusters with SBATCH_EXPORT=NONE."""
    monkeypatch.setenv("nnUNet_raw", "/data/raw")
    target, task = tmp_path / "job.pkl", Note(tmp_path / "a", "a", variable="nnUNet_raw")
    target.write_bytes(pickle.dumps(cluster_job.Submitted(task)))
    words = [sys.executable, "-c", "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))()", str(target)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(words, env={"PYTHONPATH": path}, check=True)
    assert (task.folder / "a").read_text() == "/data/raw\n"
