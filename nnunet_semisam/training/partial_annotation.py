"""Labeled cases that are annotated in part: what their labels tell of how much each class takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from nnunet_semisam.data.annotated_slices import Spread
from nnunet_semisam.data.labeled_files import reading_labeled_case
from nnunet_semisam.data.random_windows import random_windows
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels

WINDOWS = 200  # at least, of all cases together: as many patches as about a hundred steps draw


def judge_annotation(
    dataset: Any,
    label_manager: Any,
    gate: ClassGate,
    patch_sizes: tuple[Sequence[int], Sequence[int]],
    log: Callable[[str], Any],
) -> None:
    """Tell the gate's area prior how much each class takes, whether that is exact or bounds, and say so.

    Without an ignore label nothing is read, and labeled patches tell it.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with labeled training cases only.
        label_manager: nnU-Net's.
        gate: Decides which classes are active.
        patch_sizes: What nnU-Net crops before the spatial transform, and what the network sees.
        log: Receives a line if shares are not known.

    Raises:
        UserError: If a case cannot be read.
    """
    if not label_manager.has_ignore_label:
        return
    ignore, slices, counts = int(label_manager.ignore_label), Spread(), []
    per_case = math.ceil(WINDOWS / len(dataset.identifiers))
    for case in dataset.identifiers:  # one is in memory at a time
        with reading_labeled_case(case):
            label = np.asarray(dataset.load_case(case)[1][:])[0]
        slices.add(label != ignore)
        for window in random_windows(dataset, label_manager, label.shape, patch_sizes, per_case):
            counts.append(_count(label[window], ignore, gate.labels))
    problem = _unfair(slices, gate.settings)
    gate.area.fair = problem is None
    if problem is not None:
        log(f"Labeled cases are annotated in part, {problem}: how much each class takes is known as bounds only.")
    table = torch.tensor(np.array(counts), dtype=torch.float64)
    gate.area.take_labels(table[:, :-2], table[:, -2], table[:, -1], math.prod(patch_sizes[1]))


def _unfair(slices: Spread, settings: GateSettings) -> str | None:
    """Return why the annotated slices do not tell how much each class takes; ``None`` if they do."""
    found, number = slices.value(), slices.number
    if found < settings.area_spread:
        return (
            "and not in slices that are spread evenly over the volumes "
            f"(spread {found:.2f}, area_spread {settings.area_spread:g})"
        )
    if number is not None and number < settings.area_slices:
        return f"in {number} slices in all (area_slices {settings.area_slices})"
    return None


def _count(window: np.ndarray, ignore: int, labels: Labels) -> list[int]:
    """Return the annotated voxels of each output channel, all annotated ones, and all voxels of a part of a label."""
    foreground = [int(labels.members(window, channel).sum()) for channel in range(labels.channels)]
    annotated = int((window != ignore).sum())
    background = [] if labels.has_regions else [annotated - sum(foreground)]
    return [*background, *foreground, annotated, window.size]
