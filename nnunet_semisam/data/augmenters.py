"""Background workers for loaders, within the number that nnU-Net allows (``nnUNet_n_proc_DA``)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_semisam.data.unlabeled_loader import LOST
from nnunet_semisam.errors import UserError

LOGGER = logging.getLogger(__name__)
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


class UnlabeledBatches:
    """Batches of the unlabeled loader's workers, for as long as enough cases can be read.

    Workers find damaged files each for itself (see :class:`~nnunet_semisam.data.unlabeled_loader.UnlabeledLoader`) and
    go on with the cases that they can read. Here each lost case is told once, with its file and how many are lost. A
    training that has lost more than half of its cases is another one than was asked for: it stops.

    Args:
        augmenter: Yields batches.
        cases: How many cases the pool has.
        log: Receives a line for each lost case.
    """

    def __init__(self, augmenter: Any, cases: int, log: Callable[[str], object]) -> None:
        self.augmenter, self.cases, self.log = augmenter, cases, log
        self.lost: dict[str, str] = {}

    def __iter__(self) -> UnlabeledBatches:
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next batch.

        Raises:
            UserError: If more than half of the cases are lost.
        """
        while True:
            batch = next(self.augmenter)
            for case, why in batch.pop(LOST, {}).items():
                self._tell(case, why)
            if batch:
                return batch

    def _tell(self, case: str, why: str) -> None:
        if case in self.lost:
            return
        self.lost[case] = why
        text = f"{len(self.lost)} of {self.cases} unlabeled cases cannot be read any more"
        if 2 * len(self.lost) > self.cases:
            raise UserError(f"{text}, so the training stops; the last one is {case}: {why} Then go on with --c.")
        self.log(f"WARNING: {case} is left out from now on: {why} {text}; the training goes on without them.")


def start_augmenter(
    loader: nnUNetDataLoader, num_workers: int, pin_memory: bool, log: Callable[[str], object] = LOGGER.warning
) -> UnlabeledBatches:
    """Start ``num_workers`` background workers (0: none) and wait for the first batch, as nnU-Net does.

    Args:
        loader: Of unlabeled patches.
        num_workers: Of the loader.
        pin_memory: Whether batches go to a GPU.
        log: Receives a line for each case that is lost on the way.
    """
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
    batches = UnlabeledBatches(augmenter, len(loader.indices), log)
    try:
        next(batches)
    except BaseException:
        finish(batches)
        raise
    return batches


def start_both(
    start_labeled: Callable[[], tuple[Any, Any]],
    loader: nnUNetDataLoader,
    pin_memory: bool,
    log: Callable[[str], object] = LOGGER.warning,
) -> tuple[Any, Any, UnlabeledBatches]:
    """Start nnU-Net's loaders and the unlabeled one, together within nnU-Net's number of workers.

    Args:
        start_labeled: Starts and returns nnU-Net's augmenters for training and validation.
        loader: Of unlabeled patches.
        pin_memory: Whether batches go to a GPU.
        log: Receives a line for each unlabeled case that is lost on the way.

    Returns:
        nnU-Net's two augmenters, and the unlabeled batches. If one cannot be started, none keeps running.
    """
    with labeled_share() as num_workers:
        training, validation = start_labeled()
    try:
        return training, validation, start_augmenter(loader, num_workers, pin_memory, log)
    except BaseException:
        finish(training)
        finish(validation)
        raise


def finish(augmenter: Any | None) -> None:
    """Stop the workers of an augmenter, if it has any. May be called more than once."""
    if isinstance(augmenter, UnlabeledBatches):
        augmenter = augmenter.augmenter
    if isinstance(augmenter, NonDetMultiThreadedAugmenter):
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            augmenter._finish()
