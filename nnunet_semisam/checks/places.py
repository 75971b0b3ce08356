"""Folders that are to be written: below a folder that can be, with room, and in nobody's data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nnunet_semisam.checks.findings import Finding, note
from nnunet_semisam.errors import UserError, shown

GIB = 1024**3
DATA = ("nnUNet_raw", "nnUNet_preprocessed")
# Of weights: network, momentum, and another network; as files: the last, the best and the final one, and one being
# written. What is left of a finished training are two of them.
CHECKPOINT_COPIES = 3
FILES_AT_ONCE = 4
FILES_LEFT = 2


def check_target(folder: Path, option: str) -> Path:
    """Return the absolute path of a folder that a command is to make or to write to.

    Args:
        folder: What the user gave.
        option: The option, for the error.

    Raises:
        UserError: If there can be no such folder, or it cannot be written to.
    """
    remedy = f"Choose another {option}."
    if not str(folder).strip() or not folder.name.strip():
        raise UserError(f"{option} {shown(str(folder))} names no folder. {remedy}")
    try:
        path = folder.resolve()
        path.lstat()
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise UserError(f"{option} {shown(str(folder))} lies below something that is no folder. {remedy}") from error
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{option} {shown(str(folder))} cannot be a folder ({reason}). {remedy}") from error
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir():
        raise UserError(f"{option} {shown(str(folder))}: {existing} is no folder. {remedy}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{option} {shown(str(folder))}: {existing} cannot be written to by this user. {remedy}")
    return path


def refuse_inside_data(target: Path, option: str) -> None:
    """Refuse a folder inside the raw or preprocessed data sets: nnU-Net would take its files for cases.

    Raises:
        UserError: If it is there.
    """
    for variable in DATA:
        value = os.environ.get(variable)
        if value and target.is_relative_to(Path(value).resolve()):
            raise UserError(
                f"{option} {shown(str(target))} lies in {variable} ({value}), where nnU-Net keeps data sets and would "
                f"take its files for data. Choose another {option}."
            )


def check_room(folder: Path, weights: int, runs: int) -> list[Finding]:
    """Return a note if the checkpoints of all runs may not fit on the disk.

    Args:
        folder: Where they are written; it need not exist.
        weights: Bytes of the weights of the largest network.
        runs: How many runs are to be carried out.

    Raises:
        UserError: If not even those of one run fit.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    one = weights * CHECKPOINT_COPIES * FILES_AT_ONCE
    if free < one:
        raise UserError(
            f"{existing} has {free / GIB:.2f} GiB free; the checkpoints of one run take about {one / GIB:.2f} GiB "
            "while it trains. Make room, or choose another folder."
        )
    everything = weights * CHECKPOINT_COPIES * (runs * FILES_LEFT + FILES_AT_ONCE - FILES_LEFT)
    if free < everything:
        found = f"{existing} has {free / GIB:.1f} GiB free, the checkpoints of {runs} runs take about"
        return [note("room", f"{found} {everything / GIB:.1f} GiB", "make room, or begin with fewer runs")]
    return []
