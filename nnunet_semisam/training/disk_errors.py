"""Errors of the disk in a training, told as something that a user can mend."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from nnunet_semisam.errors import UserError

DISK_ERRORS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EISDIR", "ENOTDIR", "EACCES", "EPERM")
    if hasattr(errno, name)  # Windows has no quota
}


@contextlib.contextmanager
def disk_errors_for_users(folder: str) -> Iterator[None]:
    """While a training runs, let an error of the disk say what to do; all other errors stay as they are.

    Args:
        folder: The output folder, named where the error names no file.

    Raises:
        UserError: If the disk is full, read-only, closed to this user, or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"The training stopped: {error.filename or folder} cannot be read or written ({error.strerror}). The "
            "checkpoints and pseudo-labels that were there are whole: see to the disk, and go on with the same command "
            "and --c"
        ) from error
