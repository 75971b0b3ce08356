"""What a checkpoint holds beside nnU-Net's own entries, written so that it is never torn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.atomic import open_atomically, remove_temporaries
from nnunet_semisam.io.regular_files import check_regular_file
from nnunet_semisam.io.tensor_files import check_checksums, check_finite

ENTRY = "semisam"
KEYS = {"version": str, "settings": dict, "log": list, "pseudo_labels": (dict, type(None))}
NAMES = ("checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth")


def save(nnunet: Mapping[str, Any], entry: Mapping[str, Any], path: Path) -> None:
    """Write nnU-Net's checkpoint and our entry, whole or not at all.

    Args:
        nnunet: The entries that nnU-Net 2.8.1 writes, with the deployed weights as ``network_weights``.
        entry: Ours: plain types and tensors only. A tensor that appears in both is written once.
        path: The file.

    Raises:
        UserError: If the disk does not take it; the file that was there is as it was.
    """
    try:
        with open_atomically(path) as file:
            torch.save({**nnunet, ENTRY: dict(entry)}, file)
    except (OSError, RuntimeError) as error:  # torch raises the second when the file's own writes fail
        cause = error if isinstance(error, OSError) else error.__context__
        raise UserError(
            f"{path} cannot be written ({printable(str(cause or error), 200)}). The checkpoints that were there are "
            "whole: free disk space, and go on with nnUNetv2_train ... --c"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a run that was killed while it wrote a checkpoint."""
    remove_temporaries(folder, "checkpoint_*")


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be read, or lacks what a training needs to go on; another one may do."""


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """Return a checkpoint; its tensors are mapped, not read, but on Windows, which replaces no mapped file.

    The file is the run's own, as nnU-Net loads it: without ``weights_only``.

    Raises:
        DamagedCheckpointError: If it cannot be read, or our entry in it is not as the trainer writes it.
    """
    remedy = "Remove it, or get it back from a copy."
    try:
        check_regular_file(path, remedy)
        content = torch.load(path, map_location=device, weights_only=False, mmap=os.name != "nt")
    except Exception as error:  # the reader of pickles raises what the bytes make it raise
        reason = printable((str(error).strip() or type(error).__name__).splitlines()[0], 200)
        raise DamagedCheckpointError(
            f"{path} cannot be read ({reason}): it is torn or no checkpoint. {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise DamagedCheckpointError(f"{path} holds a {type(content).__name__} and is no checkpoint. {remedy}")
    entry = content.get(ENTRY)
    if entry is not None and not _is_entry(entry):
        raise DamagedCheckpointError(f"{path}: its part {ENTRY!r} lacks what a training needs to go on. {remedy}")
    return content


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not KEYS.keys() <= entry.keys():
        return False
    rounds = entry["pseudo_labels"]
    return all(isinstance(entry[key], types) for key, types in KEYS.items()) and (rounds is None or "round" in rounds)


def check_whole(path: Path) -> None:
    """Compare the checksums of a checkpoint's parts: reading finds no changed bytes.

    Raises:
        DamagedCheckpointError: If one is wrong.
    """
    try:
        check_checksums(path, "Remove it, or get it back from a copy.")
    except UserError as error:
        raise DamagedCheckpointError(str(error)) from error


def check_weights(states: Iterable[Mapping[str, Any]], path: Path, remedy: str) -> None:
    """Refuse NaN in state dicts, possibly with state dicts in them.

    Raises:
        DamagedCheckpointError: If there are any.
    """
    for state in states:
        try:
            check_finite(state, path, remedy)
        except UserError as error:
            raise DamagedCheckpointError(str(error)) from error
        check_weights((value for value in state.values() if isinstance(value, Mapping)), path, remedy)


def refuse_diverged(states: Iterable[Mapping[str, Any]], path: Path, epoch: int) -> None:
    """Stop before NaN takes the place of a checkpoint from which the training could go on.

    Args:
        states: State dicts of all networks.
        path: The checkpoint that is to be written.
        epoch: For the error.

    Raises:
        UserError: If a weight is not finite.
    """
    try:
        check_weights(states, path, "")
    except UserError as error:
        raise UserError(
            f"The training diverged: after epoch {epoch} the weights of a network are not finite (NaN or infinite). "
            f"{path.name} was not written; the checkpoints in {path.parent} are of earlier epochs and whole. Train "
            "again with a lower initial_lr, or look for cases with odd intensities in the log."
        ) from error


def others(path: Path) -> list[Path]:
    """Return the other checkpoints of a training, the newest first."""
    return [path.with_name(name) for name in NAMES if name != path.name and path.with_name(name).is_file()]


def rounds_in_use(folder: Path) -> set[int]:
    """Return the rounds of pseudo-labels that the checkpoints of a training name.

    Raises:
        DamagedCheckpointError: If one of them cannot be read: which rounds it needs is not known.
    """
    found = set()
    for name in NAMES:
        if not (folder / name).is_file():
            continue
        entry = read(folder / name, torch.device("cpu")).get(ENTRY)
        if entry and entry["pseudo_labels"] and entry["pseudo_labels"]["round"] is not None:
            found.add(entry["pseudo_labels"]["round"])
    return found


class RoundsInUse:
    """Which rounds of pseudo-labels must be kept; a checkpoint that cannot be asked is named once.

    Args:
        log: Receives lines for the training log.
    """

    def __init__(self, log: Callable[[str], Any]) -> None:
        self.log = log
        self._told: set[str] = set()

    def named_in(self, folder: Path) -> set[int] | None:
        """Return what :func:`rounds_in_use` does; ``None`` if a checkpoint cannot be read: all rounds are kept."""
        try:
            return rounds_in_use(folder)
        except DamagedCheckpointError as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                self.log(f"WARNING: {error} All rounds of pseudo-labels are kept until it is replaced.")
            return None
