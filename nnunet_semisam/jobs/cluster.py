"""Carry out tasks as jobs of a SLURM cluster through submitit, and wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark import cluster_state
from nnunet_semisam.benchmark.cluster_job import Submitted
from nnunet_semisam.benchmark.executors import Report, Task
from nnunet_semisam.benchmark.tasks import FAILED, read_json, record_error
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import write_json

JOB_FILE = "job.json"
POLL_SECONDS = 1.0
QUEUE_SECONDS = 60.0


def slurm(
    tasks: Sequence[Task], report: Report, folder: Path, options: Mapping[str, Any], cluster: str = "slurm"
) -> None:
    """Carry tasks out as jobs of a SLURM array, and wait for them.

    Jobs that an earlier start submitted and that still wait or run are not submitted again.

    Args:
        tasks: What to do.
        report: Told of every task that ended.
        folder: For submitit's files; every node must see it.
        options: submitit's parameters, such as ``timeout_min``, ``gpus_per_node`` or ``slurm_partition``.
        cluster: submitit's cluster; ``local`` runs jobs on this machine.

    Raises:
        UserError: If submitit is missing or does not take the options, if ``sbatch`` refuses the jobs, or if nothing
            tells whether an earlier job still runs.
    """
    executor = _executor(folder, options, cluster)
    jobs = {task.name: job for task in tasks if (job := _job_that_runs(task, folder, cluster)) is not None}
    new = [task for task in tasks if task.name not in jobs]
    if new:
        for task, job in zip(new, _submit(executor, new, options), strict=True):
            task.folder.mkdir(parents=True, exist_ok=True)
            write_json(task.folder / JOB_FILE, {"cluster": cluster, "job": job.job_id})
            jobs[task.name] = job
    _wait(tasks, jobs, report)


def _wait(tasks: Sequence[Task], jobs: Mapping[str, Any], report: Report) -> None:
    """Tell of every task as soon as its job has ended, in whatever order that is."""
    waiting, asked = list(tasks), time.monotonic()
    while waiting:
        ended = [(task, _outcome) for task in waiting if jobs[task.name].done()]
        if not ended and time.monotonic() - asked >= QUEUE_SECONDS:
            lost = cluster_state.lost([jobs[task.name] for task in waiting])
            ended = [(task, _failed) for task in waiting if jobs[task.name] in lost]
            asked = time.monotonic()
        for task, outcome in ended:
            report(task.name, outcome(task, jobs[task.name]))
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
            f"--slurm {_words(options)}: sbatch refused {len(tasks)} jobs: {error or 'without a word'}. Partition, "
            "account and what a job asks for must be some that your cluster has, and an array must not be longer than "
            "it allows (sinfo, sacctmgr show associations, scontrol show config | grep MaxArraySize). Mend --slurm, or "
            "begin with fewer --seeds and add the others later."
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
            f"--slurm {_words(options)}: {error}. Give submitit's "
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
    content = read_json(record) if record.is_file() else {"cluster": None}
    if content["cluster"] != cluster:
        return None
    job = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[cluster](folder=folder, job_id=content["job"])
    runs = cluster_state.waits_or_runs(job)
    if runs is None:
        raise UserError(
            f"{record} says that job {job.job_id} has {task.name}, and neither sacct nor squeue tells whether it still "
            "runs. Two trainings must not share a folder. Start again on a machine where squeue works or, if you are "
            "sure that the job has ended, delete that file and start again."
        )
    return job if runs else None


def _outcome(task: Task, job: Any) -> str:
    from submitit.core import utils

    try:
        return job.result()
    except (utils.FailedJobError, utils.UncompletedJobError) as error:
        return _failed(task, job, error)


def _failed(task: Task, job: Any, error: Exception | None = None) -> str:
    """Write down why a job ended that could not do so itself."""
    record_error(task.folder, "job", cluster_state.why_ended(job, error))
    return FAILED


def _words(options: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
