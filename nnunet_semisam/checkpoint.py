"""Write checkpoints that are never torn, and read our entry of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

ENTRY = "semisam"


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
