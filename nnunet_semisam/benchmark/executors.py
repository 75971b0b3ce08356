"""Carry out many tasks: one after the other, in several processes, or as jobs of a SLURM cluster.

A task is a callable with a ``name`` and a ``folder`` that takes environment variables and returns a status. It keeps
its own state on disk, so a task that is started again goes on. A task that fails does not stop the others.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.measured import THREADS
from nnunet_semisam.benchmark.tasks import FAILED, read_json
from nnunet_semisam.data.splits import write_json
from nnunet_semisam.errors import UserError

Report = Callable[[str, str], None]  # name of a task, its status
JOB_FILE = "job.json"
POLL_SECONDS = 1.0


class Task(Protocol):
    """What executors run."""

    name: str
    folder: Path

    def __call__(self, variables: Mapping[str, str] | None = None) -> str:
        """Carry the task out and return its status."""


def serial(tasks: Sequence[Task], report: Report) -> None:
    """Carry tasks out one after the other."""
    for task in tasks:
        report(task.name, task())


def local(tasks: Sequence[Task], report: Report, workers: int, gpus: Sequence[str] = ()) -> None:
    """Carry tasks out side by side on this machine; each trains in a process of its own.

    Args:
        tasks: What to do.
        report: Told of every task that ended.
        workers: How many at once.
        gpus: GPUs to share out, as ``CUDA_VISIBLE_DEVICES`` names them; none leaves the variable as it is.
    """
    places: queue.Queue[dict[str, str]] = queue.Queue()
    for place in _places(workers, gpus):
        places.put(place)

    def carry_out(task: Task) -> str:
        place = places.get()
        try:
            return task(place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(workers) as pool:  # threads only wait: trainings are processes
        futures = {pool.submit(carry_out, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                report(futures[future].name, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop_all()
            raise


def _places(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment variables of each worker: its GPU, or else its share of the cores."""
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} for worker in range(workers)]
    if workers == 1 or THREADS in os.environ:
        return [{} for _ in range(workers)]
    return [{THREADS: str(max(1, (os.cpu_count() or 1) // workers))} for _ in range(workers)]


class Submitted:
    """A task on its way to a cluster; submitit submits it again if it is preempted or runs out of time."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self) -> str:
        """Carry the task out on the machine that got it."""
        return self.task()

    def checkpoint(self) -> Any:
        """Return what to submit in place of an interrupted job: the task finds its own state on disk."""
        import submitit

        processes.stop_all()
        return submitit.helpers.DelayedSubmission(Submitted(self.task))


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
