"""Carry out tasks as jobs of a SLURM cluster through submitit, and wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.benchmark.cluster_job import Submitted
from nnunet_semisam.benchmark.executors import Report, Task
from nnunet_semisam.benchmark.tasks import FAILED, read_json
from nnunet_semisam.errors import UserError
from nnunet_semisam.json_files import write_json

JOB_FILE = "job.json"
POLL_SECONDS = 1.0


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
        UserError: If submitit is missing or does not take the options.
    """
    executor = _executor(folder, options, cluster)
    jobs = {task.name: job for task in tasks if (job := _job_that_runs(task, folder, cluster)) is not None}
    new = [task for task in tasks if task.name not in jobs]
    if new:
        with executor.batch():
            submitted = [executor.submit(Submitted(task)) for task in new]
        for task, job in zip(new, submitted, strict=True):
            task.folder.mkdir(parents=True, exist_ok=True)
            write_json(task.folder / JOB_FILE, {"cluster": cluster, "job": job.job_id})
            jobs[task.name] = job
    _wait(tasks, jobs, report)


def _wait(tasks: Sequence[Task], jobs: Mapping[str, Any], report: Report) -> None:
    """Tell of every task as soon as its job has ended, in whatever order that is."""
    waiting = list(tasks)
    while waiting:
        ended = [task for task in waiting if jobs[task.name].done()]
        for task in ended:
            report(task.name, _outcome(jobs[task.name]))
            (task.folder / JOB_FILE).unlink(missing_ok=True)
        waiting = [task for task in waiting if task not in ended]
        if not ended:
            time.sleep(POLL_SECONDS)


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
            f"--slurm {' '.join(f'{key}={value}' for key, value in options.items())}: {error}. Give submitit's "
            "parameters, for example timeout_min=1440 gpus_per_node=1 cpus_per_task=12 slurm_partition=gpu, on a "
            "machine that has sbatch."
        ) from error
    return executor


def _job_that_runs(task: Task, folder: Path, cluster: str) -> Any:
    """Return the job that an earlier start submitted for a task, if it still waits or runs."""
    import submitit

    record = task.folder / JOB_FILE
    if not record.is_file() or read_json(record)["cluster"] != cluster:
        return None
    job_class = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[cluster]
    job = job_class(folder=folder, job_id=read_json(record)["job"])
    return None if job.done(force_check=True) else job


def _outcome(job: Any) -> str:
    import submitit

    try:
        return job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError):
        return FAILED
