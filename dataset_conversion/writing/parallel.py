"""Reading many files at once: in threads, since hashing, unpacking and ITK let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_threads(function: Callable[[Item], Outcome], items: Iterable[Item], workers: int, text: str) -> list[Outcome]:
    """Return what a function makes of every item, in their order, with a progress bar on a terminal.

    Args:
        function: Called in several threads at once.
        items: Its arguments.
        workers: Number of threads.
        text: What the bar says.
    """
    from tqdm import tqdm

    items = list(items)
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        return list(tqdm(pool.map(function, items), desc=text, total=len(items), leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, nothing more is begun
