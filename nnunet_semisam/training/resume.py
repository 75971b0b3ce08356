"""Go on with a training: which checkpoint of it can be used, and whether it fits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam import __version__, ranks
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.sam.parts import is_out_of_memory
from nnunet_semisam.training import checkpoint as checkpoints
from nnunet_semisam.training.checkpoint import DamagedCheckpointError

DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)  # of states that do not fit


def load_newest(path: Path, load: Callable[[Path], None], log: Callable[[str], Any]) -> None:
    """Load a checkpoint or, if it is damaged, the newest other one of the training that is whole.

    Args:
        path: What nnU-Net chose.
        load: Restores the training from a file.
        log: Receives a line if another one is taken.

    Raises:
        UserError: If none can be used, or the processes of a training cannot read the same one.
    """
    _agree(_load_newest(path, load, log))


def _load_newest(path: Path, load: Callable[[Path], None], log: Callable[[str], Any]) -> Path:
    try:
        load(path)
    except DamagedCheckpointError as error:
        damage = error
    else:
        return path
    for other in checkpoints.others(path):
        try:
            load(other)
        except DamagedCheckpointError:
            continue
        log(f"WARNING: {damage} The training goes on with {other.name}.")
        return other
    raise UserError(
        f"{damage} No other checkpoint in {path.parent} can be used. To begin again, start without --c."
    ) from damage


def _agree(used: Path) -> None:
    """Stop if the processes of a training have read different checkpoints: each would train another network."""
    names = ranks.gathered(used.name)
    if len(set(names)) > 1:
        raise UserError(
            f"The processes of this training can read different checkpoints in {used.parent}: {', '.join(names)}. The "
            "disk or the network drive fails: see that all can read the same files, then go on with --c."
        )


def read_entry(path: Path, device: torch.device, trainer: str) -> dict[str, Any]:
    """Return what the trainer of that name wrote into a checkpoint beside nnU-Net's own entries.

    Raises:
        DamagedCheckpointError: If the file is damaged.
        UserError: If another trainer wrote it, whose settings would silently become those of this one.
    """
    content = checkpoints.read(path, device)
    entry, writer = content.get(checkpoints.ENTRY), content.get("trainer_name")
    if entry is None or writer != trainer:
        raise UserError(
            f"{path} was not written by {trainer} but by {printable(str(writer))}. To begin with its weights, name it "
            "in the setting initial_weights, or with nnU-Net's -pretrained_weights (all but the segmentation layers)."
        )
    checkpoints.check_whole(path)
    return entry


def written_by(path: Path, entry: Mapping[str, Any]) -> str:
    """Return a checkpoint's path and version, for messages."""
    return f"{path} (written by nnunet-semisam {printable(entry['version'])}, this is {__version__})"


@contextlib.contextmanager
def misfit_is_damage(source: str) -> Iterator[None]:
    """While states are restored, let what does not fit be a damaged checkpoint.

    Args:
        source: What :func:`written_by` returned.

    Raises:
        DamagedCheckpointError: If a state does not fit.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split()), 300)
        raise DamagedCheckpointError(
            f"{source} does not fit this training ({reason}): it is damaged, or of other plans, labels or another "
            "version."
        ) from error
