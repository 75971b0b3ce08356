"""Folders of long work that one command begins and later calls of it go on with: a json file says what was begun."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.locks import LOCK_FILE
from nnunet_semisam.io.typed_records import RecordError

REMEDY = "Choose another --out, or move that folder away."
T = TypeVar("T")


def load_begun(path: Path, read: Callable[[Any], T]) -> T | None:
    """Return what was begun, or ``None`` if there is no such file.

    Args:
        path: The json file that says so.
        read: Returns it from the file's content, or raises ``RecordError``.

    Raises:
        UserError: If the file cannot be read.
    """
    if not os.path.lexists(path):
        return None
    content = read_object(path, REMEDY)
    try:
        return read(content)
    except RecordError as error:
        raise UserError(f"{path} cannot be read: {error} {REMEDY}") from error


def refuse_foreign_folder(folder: Path, what: str) -> None:
    """Refuse to begin in a folder that holds something else.

    Args:
        folder: The folder; it may be missing or empty.
        what: What would be begun there, for example ``benchmark``.

    Raises:
        UserError: If the folder is in use.
    """
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {LOCK_FILE}):
        raise UserError(f"{folder} exists and is not a folder of a {what}. Choose another --out.")
