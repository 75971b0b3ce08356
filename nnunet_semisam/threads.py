"""How many processes and threads a training of nnU-Net takes, where several share a machine."""

from __future__ import annotations

import multiprocessing
import os

from nnunet_semisam.errors import UserError, shown

THREADS = "nnUNet_semisam_threads"
AUGMENTERS = "nnUNet_n_proc_DA"  # nnU-Net's own variable
MOST_AUGMENTERS = 12  # nnU-Net's own default


def usable_cores() -> int:
    """Return how many cores this process may use: those of its job, not of the machine, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_cores(workers: int, with_gpu: bool) -> dict[str, str]:
    """Return the environment variables that give each of several trainings its share of the cores.

    By itself nnU-Net takes up to twelve processes for augmentation and, on a CPU, a thread per core. Variables that
    the user has set are left out: they win.

    Args:
        workers: How many trainings run at once.
        with_gpu: Whether each has a GPU.
    """
    if workers == 1:
        return {}
    cores = max(1, usable_cores() // workers)
    share = {AUGMENTERS: str(min(MOST_AUGMENTERS, cores))}
    if not with_gpu:
        share[THREADS] = str(cores)
    return {name: value for name, value in share.items() if name not in os.environ}


def asked_threads() -> int | None:
    """Return how many threads the user lets a training on a CPU take; ``None`` if nothing is said.

    Not ``OMP_NUM_THREADS``: users set that to 1 for nnU-Net's workers, and nnU-Net trains on a CPU with all cores in
    spite of it.

    Raises:
        UserError: If the variable is not a whole number above 0.
    """
    value = os.environ.get(THREADS)
    if not value:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"The environment variable {THREADS} is {shown(value)}. Allowed: a whole number, 1 or more.")
    return int(value)


def limit_threads() -> None:
    """Let nnU-Net take as many threads on a CPU as the environment says: by itself it takes one per core.

    Where several trainings share the cores, or one shares them with other programs, that makes all of them slow.
    """
    limit = asked_threads()
    if limit:
        multiprocessing.cpu_count = lambda: limit
