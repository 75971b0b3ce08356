"""Labeled cases that are annotated in part: what their labels tell of how much each class takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nnunet_semisam.data.annotated_slices import spread
from nnunet_semisam.data.labeled_files import reading_labeled_case
from nnunet_semisam.gate.class_gate import ClassGate


def judge_annotation(dataset: Any, label_manager: Any, gate: ClassGate, log: Callable[[str], Any]) -> None:
    """Tell the gate's area prior whether annotated voxels show each class as often as it occurs, and say so.

    Without an ignore label nothing is read.

    Args:
        dataset: nnU-Net's preprocessed dataset, opened with labeled training cases only.
        label_manager: nnU-Net's.
        gate: Decides which classes are active.
        log: Receives a line if shares are not known.

    Raises:
        UserError: If a case cannot be read.
    """
    if not label_manager.has_ignore_label:
        return
    found = spread(_annotated(dataset, int(label_manager.ignore_label)))
    gate.area.fair = found >= gate.settings.area_spread
    if not gate.area.fair:
        log(
            "Labeled cases are annotated in part, and not in slices that are spread evenly over the volumes "
            f"(spread {found:.2f}, area_spread {gate.settings.area_spread:g}): how much each class takes is known as "
            "bounds only."
        )


def _annotated(dataset: Any, ignore: int) -> Iterator[np.ndarray]:
    """Yield, for each case, which voxels have a label, ``(Z, Y, X)``, bool."""
    for case in dataset.identifiers:
        with reading_labeled_case(case):
            annotated = np.asarray(dataset.load_case(case)[1][:])[0] != ignore
        yield annotated
