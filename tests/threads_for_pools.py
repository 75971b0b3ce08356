"""nnU-Net's pools of processes, replaced by threads: each process would import torch and nnU-Net for seconds.

Its real pools work in the tests that call whole commands, and in the demo.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import SpawnContext
from multiprocessing.pool import ThreadPool


class ThreadsForPools(SpawnContext):
    """The context "spawn" with threads in place of the processes of a pool."""

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None):
        return ThreadPool(processes, initializer, initargs)


def install() -> None:
    """Replace the pools; call it before nnU-Net is imported, which takes `Pool` by name."""
    original, threads = multiprocessing.get_context, ThreadsForPools()
    multiprocessing.get_context = lambda method=None: threads if method == "spawn" else original(method)
    multiprocessing.Pool = threads.Pool
