"""Reading nnU-Net's preprocessed files of labeled cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nnunet_semisam.errors import UserError, printable


@contextlib.contextmanager
def reading_labeled_case(case: str) -> Iterator[None]:
    """While the files of a labeled case are read, name the case in any error.

    Args:
        case: Name of the case.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        yield
    except Exception as error:  # nnU-Net's reader unpickles, and raises what the bytes make it raise
        raise UserError(
            f"The preprocessed labeled case {case!r} cannot be read "
            f"({printable(str(error) or type(error).__name__, 200)}). Delete its files in nnUNet_preprocessed and run "
            "nnUNetv2_preprocess again."
        ) from error
