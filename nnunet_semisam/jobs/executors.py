"""Carry out many tasks: one after the other, or side by side on this machine. For clusters see ``cluster.py``."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from nnunet_semisam.jobs import processes
from nnunet_semisam.jobs.base import Status, Task
from nnunet_semisam.threads import shared_cores

Report = Callable[[str, Status], None]
"""Told of every task that has ended: its name, its status."""


def serial(tasks: Sequence[Task], report: Report) -> None:
    """Carry tasks out one after the other."""
    for task in tasks:
        report(task.name, task())


def local(
    tasks: Sequence[Task], report: Report, workers: int, gpus: Sequence[str] = (), one_at_a_time: bool = False
) -> None:
    """Carry tasks out side by side on this machine.

    Args:
        tasks: What to do.
        report: Told of every task that ended.
        workers: How many at once.
        gpus: GPUs to share out, as ``CUDA_VISIBLE_DEVICES`` names them; none leaves the variable as it is.
        one_at_a_time: Whether each task has the machine to itself, with the cores that it would have beside others:
            for measurements of time, of which the last ones would otherwise run beside fewer others.
    """
    places: queue.Queue[dict[str, str]] = queue.Queue()
    for place in _places(workers, gpus):
        places.put(place)

    def carry_out(task: Task) -> Status:
        place = places.get()
        try:
            return task(place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(1 if one_at_a_time else workers) as pool:  # threads only wait: the commands are processes
        futures = {pool.submit(carry_out, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                report(futures[future].name, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop_all()
            raise


def _places(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Return the environment variables of each worker: its GPU, and its share of the cores."""
    share = shared_cores(workers, with_gpu=bool(gpus))
    if not gpus:
        return [dict(share) for _ in range(workers)]
    return [{"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)], **share} for worker in range(workers)]
