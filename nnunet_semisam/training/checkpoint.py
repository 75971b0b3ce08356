"""What a checkpoint holds beside nnU-Net's own entries, written so that it is never torn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnunet_semisam import __version__
from nnunet_semisam.methods.parts.ema import unwrap

if TYPE_CHECKING:
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

ENTRY = "semisam"


def contents(trainer: SemiSupervisedTrainer) -> dict[str, Any]:
    """Return nnU-Net 2.8.1's checkpoint, with the deployed weights as ``network_weights``, and our entry.

    Ours holds plain types and tensors only. Tensors that appear in both (a deployed teacher) are written once.
    """
    student, method = unwrap(trainer.network), trainer.method
    deployed = student if method is None else method.deployable(student)
    return {
        "network_weights": deployed.state_dict(),
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
        "logging": trainer.logger.get_checkpoint(),
        "_best_ema": trainer._best_ema,
        "current_epoch": trainer.current_epoch + 1,
        "init_args": trainer.my_init_kwargs,
        "trainer_name": type(trainer).__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
        ENTRY: {
            "version": __version__,
            "config": trainer.config.to_dict(),
            "student": None if method is None else student.state_dict(),
            "method": {} if method is None else method.state_dict(),
            "optimizers": [] if method is None else [optimizer.state_dict() for optimizer in method.optimizers()],
            "log": trainer.semisam_log.state_dict(),
            "pseudo_labels": None if trainer.pseudo_labels is None else trainer.pseudo_labels.state_dict(),
        },
    }


def save_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Write to a temporary file, flush it to the disk, then rename: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a run that was killed while it wrote a checkpoint."""
    for leftover in folder.glob(".checkpoint_*.tmp"):
        leftover.unlink(missing_ok=True)


def read_entry(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return our entry of a checkpoint, or ``None`` if it was written by a stock trainer.

    The file is the run's own (nnU-Net loads the same one without ``weights_only``); its tensors are mapped, not read.
    """
    return torch.load(path, map_location=device, weights_only=False, mmap=True).get(ENTRY)
