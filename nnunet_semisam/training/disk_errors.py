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


GO_ON = (
    "The checkpoints and pseudo-labels that were there are whole: see to the disk, and go on with the same command and "
    "--c"
)
OTHER_RESULTS = (
    "See that you may write there, or name another folder for results: export nnUNet_results=/path/to/a/folder"
)


@contextlib.contextmanager
def disk_errors_for_users(folder: str, remedy: str = GO_ON) -> Iterator[None]:
    """While a training begins or runs, let an error of the disk say what to do; all other errors stay as they are.

    Args:
        folder: The output folder, named where the error names no file.
        remedy: What to do.

    Raises:
        UserError: If the disk is full, read-only, closed to this user, or fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"The training stopped: {error.filename or folder} cannot be read or written ({error.strerror}). {remedy}"
        ) from error
