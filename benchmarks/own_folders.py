"""Folders that a benchmark makes anew: it deletes its own, and no others of these everyday names."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from nnunet_semisam.errors import UserError, name_some

MARK = ".made_by_benchmarks"


def make_anew(parent: Path, names: Sequence[str]) -> None:
    """Make empty folders, and delete what an earlier call left in them.

    Args:
        parent: Where they lie; it is made.
        names: Names of the folders.

    Raises:
        UserError: If one is there that was not made by this function.
    """
    there = [name for name in names if (parent / name).exists()]
    if there and not (parent / MARK).is_file():
        raise UserError(
            f"{parent} holds {name_some(there)}, which no benchmark has made and which it would delete. Name another "
            "folder."
        )
    parent.mkdir(parents=True, exist_ok=True)
    (parent / MARK).touch()
    for name in names:
        shutil.rmtree(parent / name, ignore_errors=True)
        (parent / name).mkdir()
