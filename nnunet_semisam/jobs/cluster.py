"""Carry out tasks as jobs of a SLURM cluster through submitit, and wait for them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.json_files import read_object, write_json
from nnunet_semisam.jobs import cluster_state
from nnunet_semisam.jobs.base import Status, Task, TaskError
from nnunet_semisam.jobs.cluster_job import Submitted
from nnunet_semisam.jobs.executors import Report

JOB_FILE = "job.json"
JOB_NUMBER = re.compile(r"[0-9]+(_[0-9]+)?")  # of SLURM, of an element of an array, or of a process
POLL_SECONDS = 1.0
QUEUE_SECONDS = 60.0


def slurm(
    tasks: Sequence[Task], report: Report, folder: Path, options: Mapping[str, Any], cluster: str = "slurm"
) -> None:
    """Carry tasks out as jobs of SLURM arrays, and wait for them.

    Jobs that an earlier start submitted and that still wait or run are not submitted again.

    Args:
        tasks: What to do.
        report: Told of every task that ended.
        folder: For submitit's files; every node must see it.
        options: submitit's parameters for all tasks, such as ``timeout_min``, ``gpus_per_node`` or
            ``slurm_partition``.
        cluster: submitit's cluster; ``local`` runs jobs on this machine.

    Raises:
        UserError: If submitit is missing or does not take the options, if ``sbatch`` refuses the jobs, or if nothing
            tells whether an earlier job still runs.
    """
    check(folder, options, cluster)  # early, also if nothing is new
    jobs: dict[str, Any] = {}
    new: list[Task] = []
    for task in tasks:
        job = _job_that_runs(task, folder, cluster)
        if job is None:
            new.append(task)
        else:
            jobs[task.name] = job
    for needs, group in _by_needs(new):
        parameters = {**options, **needs}
        submitted = _submit(_executor(folder, parameters, cluster), group, parameters)
        for task, job in zip(group, submitted, strict=True):
            task.folder.mkdir(parents=True, exist_ok=True)
            write_json(task.folder / JOB_FILE, {"cluster": cluster, "job": job.job_id})
            jobs[task.name] = job
    _wait(tasks, jobs, report)


def check(folder: Path, options: Mapping[str, Any], cluster: str = "slurm") -> None:
    """Check that jobs could be submitted from this machine, as far as it can tell; nothing is written.

    Raises:
        UserError: If submitit is missing, does not take the options, or finds no cluster.
    """
    _executor(folder, options, cluster)


def _by_needs(tasks: Sequence[Task]) -> list[tuple[Mapping[str, Any], list[Task]]]:
    """Return tasks in groups that need the same: all jobs of an array have the same parameters."""
    groups: list[tuple[Mapping[str, Any], list[Task]]] = []
    for task in tasks:
        needs = task.needs()
        members = next((members for known, members in groups if known == needs), None)
        if members is None:
            groups.append((needs, [task]))
        else:
            members.append(task)
    return groups


def _wait(tasks: Sequence[Task], jobs: Mapping[str, Any], report: Report) -> None:
    """Tell of every task as soon as its job has ended, in whatever order that is.

    Args:
        tasks: What to wait for.
        jobs: Name of a task -> its job.
        report: Told of every task that ended.
    """
    waiting = list(tasks)
    last_look_at_queue = time.monotonic()
    while waiting:
        ended = {task.name: _outcome(task, jobs[task.name]) for task in waiting if jobs[task.name].done()}
        if not ended and time.monotonic() - last_look_at_queue >= QUEUE_SECONDS:
            lost = cluster_state.lost([jobs[task.name] for task in waiting])
            ended = {task.name: _failed(task, jobs[task.name]) for task in waiting if jobs[task.name] in lost}
            last_look_at_queue = time.monotonic()
        for task in [task for task in waiting if task.name in ended]:
            report(task.name, ended[task.name])
            (task.folder / JOB_FILE).unlink(missing_ok=True)
            waiting.remove(task)
        if not ended:
            time.sleep(POLL_SECONDS)


def _submit(executor: Any, tasks: Sequence[Task], options: Mapping[str, Any]) -> list[Any]:
    """Return the jobs of an array, one per task."""
    from submitit.core import utils

    try:
        with executor.batch():
            return [executor.submit(Submitted(task)) for task in tasks]
    except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
        raise UserError(
            f"--slurm {_as_options(options)}: sbatch refused {len(tasks)} jobs: {error or 'it gave no reason'}. "
            "Partition, account and what a job asks for must be some that your cluster has, and an array must not be "
            "longer than it allows (sinfo, sacctmgr show associations, scontrol show config | grep MaxArraySize). "
            "Correct --slurm, or begin with fewer tasks and add the others later."
        ) from error


def _executor(folder: Path, options: Mapping[str, Any], cluster: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("--executor slurm needs submitit. Install it: pip install 'nnunet-semisam[slurm]'") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**options)
    except (NameError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"--slurm {_as_options(options)}: {error}. Give submitit's "
            "parameters, for example timeout_min=1440 gpus_per_node=1 cpus_per_task=12 slurm_partition=gpu, on a "
            "machine that has sbatch."
        ) from error
    return executor


def _job_that_runs(task: Task, folder: Path, cluster: str) -> Any:
    """Return the job that an earlier start submitted for a task, if it still waits or runs.

    Raises:
        UserError: If that cannot be found out.
    """
    import submitit

    record = task.folder / JOB_FILE
    if not record.is_file():
        return None
    remedy = "If no job of this task runs any more, delete that file and start again."
    content = read_object(record, remedy)
    if content.get("cluster") != cluster:
        return None
    if not isinstance(content.get("job"), str) or not JOB_NUMBER.fullmatch(content["job"]):
        raise UserError(f"{record} does not name a job, got {shown(content.get('job'))}. {remedy}")
    kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[cluster]
    job = kind(folder=folder, job_id=content["job"])
    runs = cluster_state.waits_or_runs(job)
    if runs is None:
        raise UserError(
            f"{record} says that job {job.job_id} has {task.name}, and neither sacct nor squeue tells whether it still "
            "runs. Two jobs must not share a folder. Start again on a machine where squeue works or, if you are "
            "sure that the job has ended, delete that file and start again."
        )
    return job if runs else None


def _outcome(task: Task, job: Any) -> Status:
    from submitit.core import utils

    try:
        result = job.result()
    except (utils.FailedJobError, utils.UncompletedJobError) as error:
        return _failed(task, job, error)
    except Exception as error:  # the file of the result is torn: it says nothing, the task's own folder does
        return Status.DONE if task.finished() else _failed(task, job, error)
    return result if isinstance(result, Status) else _failed(task, job)


def _failed(task: Task, job: Any, error: Exception | None = None) -> Status:
    """Write down why a job ended that could not do so itself."""
    TaskError("job", None, cluster_state.why_ended(job, error)).write(task.folder)
    return Status.FAILED


def _as_options(options: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
