"""Before a file is read: it is there, it is a file, it can be read, and it is not absurdly large."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nnunet_semisam.errors import UserError

MIB = 2**20
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular_file(path: str | Path, remedy: str, most_bytes: int | None = None) -> int:
    """Refuse what cannot be read to its end: pipes and devices would be waited for, or never end.

    Args:
        path: The file; a link counts as what it leads to.
        remedy: What the user can do, for the error.
        most_bytes: Largest size; ``None`` allows any.

    Returns:
        Its size in bytes.

    Raises:
        UserError: If it is missing, a link that leads nowhere or in a circle, no regular file, not readable for this
            user, or too large.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path} cannot be read ({_why_not_there(path, error)}). {remedy}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise UserError(f"{path} is {kind}, and a file is needed. {remedy}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: this user has no right to. {remedy}")
    if most_bytes is not None and found.st_size > most_bytes:
        raise UserError(
            f"{path} has {found.st_size / MIB:.1f} MiB, at most {most_bytes / MIB:.0f} MiB are read. {remedy}"
        )
    return found.st_size


def _why_not_there(path: Path, error: Exception) -> str:
    try:
        if path.is_symlink():
            return f"a link to {os.readlink(path)}, which is not there or leads back to itself"
    except (OSError, ValueError):
        pass
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def read_bytes(path: str | Path, remedy: str, most_bytes: int) -> bytes:
    """Return the content of a file that others may have written; see :func:`check_regular_file`.

    Raises:
        UserError: As there, or if the disk refuses.
    """
    check_regular_file(path, remedy, most_bytes)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}). {remedy}") from error


def read_text(path: str | Path, remedy: str, most_bytes: int = 64 * MIB) -> str:
    """Return a text in UTF-8, with or without a byte-order mark, line ends as they are.

    Raises:
        UserError: As :func:`read_bytes`, or if it is no UTF-8.
    """
    content = read_bytes(path, remedy, most_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}. {remedy}") from error
