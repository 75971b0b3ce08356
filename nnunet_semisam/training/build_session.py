"""The rounds of pseudo-labels of a training: what they need on the disk, and where an interrupted training goes on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw
from torch import nn

from nnunet_semisam import ranks
from nnunet_semisam.context import DataContext, TrainingContext
from nnunet_semisam.data.geometry_of_images import ensure_geometry
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.pseudo_labels.session import PseudoLabelSession


def build_session(
    context: TrainingContext,
    pool: UnlabeledDataset,
    specialist: nn.Module,
    gate: ClassGate,
    resumed: dict[str, Any] | None,
) -> PseudoLabelSession:
    """Return the rounds of a training; every process of it must call this.

    Args:
        context: The training.
        pool: The unlabeled cases.
        specialist: The network that prompts.
        gate: Knows how well the network knows its classes.
        resumed: State of the rounds in the checkpoint that the training goes on from; ``None``: it begins.

    Raises:
        UserError: If a SAM cannot be loaded.
    """
    if context.rank == 0:
        write_missing_geometry(context.data, [*context.labeled_dataset.identifiers, *pool.files])
    ranks.barrier()
    session = PseudoLabelSession(context, pool, specialist, gate)
    if resumed is not None:
        session.load_state_dict(resumed)
    return session


def write_missing_geometry(data: DataContext, cases: Iterable[str]) -> None:
    """Write the geometry of cases that have none yet from the headers of their raw images, where these are at hand.

    Hidden cases are preprocessed by nnU-Net, which keeps geometry and labels in one file: that file stays closed.
    """
    if not nnUNet_raw.is_set():
        return
    raw = Path(str(nnUNet_raw)) / data.preprocessed_dataset.name
    ensure_geometry(raw, data.preprocessed_dataset, cases, data.dataset_json, data.plans_manager.plans)
