"""Seed everything that a training draws from in the main process."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int | None, epoch: int = 0, rank: int = 0) -> None:
    """Seed python, numpy and torch; ``None`` leaves all as they are.

    Args:
        seed: The configured seed.
        epoch: First epoch to train: a resumed run must not draw the same patches again.
        rank: Rank of the process, so that ranks draw different patches.
    """
    if seed is None:
        return
    mixed = (seed + 1_000_003 * epoch + 7_919 * rank) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
