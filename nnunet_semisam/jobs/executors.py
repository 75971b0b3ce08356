"""Carry out many tasks: one after the other, or in several processes. For clusters see ``cluster.py``.

A task is a callable with a ``name`` and a ``folder`` that takes environment variables and returns a status. It keeps
its own state on disk, so a task that is started again goes on. A task that fails does not stop the others.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from nnunet_semisam.benchmark import processes
from nnunet_semisam.benchmark.measured import THREADS

AUGMENTERS, MOST_AUGMENTERS = "nnUNet_n_proc_DA", 12  # nnU-Net's own variable and default
Report = Callable[[str, str], None]  # name of a task, its status


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
    """Return the environment variables of each worker: its GPU, and its share of the cores.

    By itself nnU-Net takes up to twelve processes for augmentation and, on a CPU, a thread per core.
    """
    cores = max(1, (os.cpu_count() or 1) // workers)
    share = {AUGMENTERS: str(min(MOST_AUGMENTERS, cores))} if workers > 1 else {}
    if workers > 1 and not gpus:
        share[THREADS] = str(cores)
    share = {name: value for name, value in share.items() if name not in os.environ}  # the user's own wish wins
    places = [{"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {} for worker in range(workers)]
    return [place | share for place in places]
