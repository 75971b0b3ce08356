"""What a checkpoint holds beside nnU-Net's own entries, written so that it is never torn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam.io.atomic import open_atomically, remove_temporaries

ENTRY = "semisam"
NAMES = ("checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth")


def save(nnunet: Mapping[str, Any], entry: Mapping[str, Any], path: Path) -> None:
    """Write nnU-Net's checkpoint and our entry, whole or not at all.

    Args:
        nnunet: The entries that nnU-Net 2.8.1 writes, with the deployed weights as ``network_weights``.
        entry: Ours: plain types and tensors only. A tensor that appears in both is written once.
        path: The file.
    """
    with open_atomically(path) as file:
        torch.save({**nnunet, ENTRY: dict(entry)}, file)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a run that was killed while it wrote a checkpoint."""
    remove_temporaries(folder, "checkpoint_*")


def read_entry(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return our entry of a checkpoint, or ``None`` if it was written by a stock trainer.

    The file is the run's own (nnU-Net loads the same one without ``weights_only``); its tensors are mapped, not read.
    """
    return torch.load(path, map_location=device, weights_only=False, mmap=True).get(ENTRY)


def read_trainer_name(path: Path) -> str | None:
    """Return the name of the trainer that wrote a checkpoint."""
    return torch.load(path, map_location="cpu", weights_only=False, mmap=True).get("trainer_name")


def rounds_in_use(folder: Path) -> set[int]:
    """Return the rounds of pseudo-labels that the checkpoints of a training name."""
    found = set()
    for name in NAMES:
        if not (folder / name).is_file():
            continue
        entry = read_entry(folder / name, torch.device("cpu"))
        if entry and entry["pseudo_labels"] and entry["pseudo_labels"]["round"] is not None:
            found.add(entry["pseudo_labels"]["round"])
    return found
