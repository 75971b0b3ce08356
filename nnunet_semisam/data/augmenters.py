"""Background workers for loaders, within the number that nnU-Net allows (``nnUNet_n_proc_DA``)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

VARIABLE = "nnUNet_n_proc_DA"


def share_workers(allowed: int) -> tuple[int, int]:
    """Divide the allowed workers between the labeled and the unlabeled loader.

    Both make the same number of patches a step; the unlabeled loader augments intensities more often and gets the
    odd one. 0 means both run in the main process; one worker each is the least otherwise.
    """
    if allowed == 0:
        return 0, 0
    labeled = max(1, allowed // 2)
    return labeled, max(1, allowed - labeled)


@contextlib.contextmanager
def labeled_share() -> Iterator[int]:
    """While open, nnU-Net sees only the labeled share of the workers; yields the unlabeled share."""
    before, (labeled, unlabeled) = os.environ.get(VARIABLE), share_workers(get_allowed_n_proc_DA())
    os.environ[VARIABLE] = str(labeled)
    try:
        yield unlabeled
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def start_augmenter(loader: nnUNetDataLoader, num_workers: int, pin_memory: bool) -> Any:
    """Start ``num_workers`` background workers (0: none) and wait for the first batch, as nnU-Net does."""
    if num_workers == 0:
        augmenter = SingleThreadedAugmenter(loader, None)
    else:
        augmenter = NonDetMultiThreadedAugmenter(
            loader,
            None,
            num_workers,
            num_cached=max(6, num_workers // 2),  # as nnU-Net 2.8.1's training loader
            seeds=None,
            pin_memory=pin_memory,
            wait_time=0.002,
        )
    next(augmenter)
    return augmenter


def finish(augmenter: Any | None) -> None:
    """Stop the workers of an augmenter, if it has any. May be called more than once."""
    if isinstance(augmenter, NonDetMultiThreadedAugmenter):
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            augmenter._finish()
