"""Work on many cases in several processes, where one case that kills its process takes no other one down."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")
KILLED = "its process was killed, most likely for lack of memory"


def each_case(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_processes: int,
    title: str,
    killed: Callable[[Job], Result],
) -> Iterator[tuple[Job, Result]]:
    """Yield every job with its result, in the order in which they are done, and show a bar on a terminal.

    A job during which a process died (out of memory, a reader that crashes) is tried again alone. If its process dies
    again, ``killed`` says what its result is; all others are done as if nothing had happened.

    Args:
        work: Does a job; a function of a module, since it travels to other processes.
        jobs: What to do, picklable.
        num_processes: How many at the same time; below 2 all are done in this process.
        title: Of the bar.
        killed: Returns the result of a job that its process does not survive.
    """
    with tqdm(total=len(jobs), desc=title, unit="case", leave=False, disable=None) as bar:
        if num_processes <= 1 or len(jobs) <= 1:
            done = ((job, work(job)) for job in jobs)
        else:
            done = _in_processes(work, jobs, min(num_processes, len(jobs)), killed)
        for pair in done:
            bar.update()
            yield pair


def _in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], num_processes: int, killed: Callable[[Job], Result]
) -> Iterator[tuple[Job, Result]]:
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _until_one_dies(work, waiting, num_processes)
        for job in suspects:
            died_again = yield from _until_one_dies(work, deque([job]), 1)
            if died_again:
                yield job, killed(job)


def _until_one_dies(
    work: Callable[[Job], Result], waiting: deque[Job], num_processes: int
) -> Iterator[tuple[Job, Result]]:
    """Do the jobs until all are done or a process dies.

    Returns:
        The jobs that were being done then; all later ones are still ``waiting``.
    """
    workers = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"))
    running: dict[Future, Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < num_processes:
                job = waiting.popleft()
                try:
                    running[workers.submit(work, job)] = job
                except BrokenProcessPool:
                    waiting.appendleft(job)
                    return list(running.values())
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    result = future.result()
                except BrokenProcessPool:  # a multiprocessing.Pool would wait for the dead worker for ever
                    return list(running.values())
                yield running.pop(future), result
        return []
    finally:
        workers.shutdown(cancel_futures=True)
