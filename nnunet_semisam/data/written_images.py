"""Images and segmentations that are written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_semisam.data.stored_voxels import refuse_cut_off
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import put_in_place, temporary_beside


@contextlib.contextmanager
def written_image(target: Path, with_others: bool = False) -> Iterator[Path]:
    """Give a name to write an image to; after the block it is looked at and renamed to ``target``.

    Args:
        target: The file. Its folder must exist.
        with_others: Whether what the writer puts beside it comes along: nnU-Net writes the spacing of a tif volume to
            ``CASE.json``.

    Yields:
        A file of the same name in a temporary folder.

    Raises:
        UserError: If it is not whole: ITK says nothing when a disk is full (SimpleITK 2.5.7).
    """
    folder = temporary_beside(target)
    folder.mkdir()
    try:
        written = folder / target.name
        yield written
        try:
            refuse_cut_off(written)
            if written.stat().st_size == 0:
                raise ValueError("it is empty")
        except (ValueError, OSError) as error:
            raise UserError(
                f"{target} was not written whole ({error}): is the disk full? Make room, and run the command again."
            ) from error
        for other in sorted(folder.iterdir()) if with_others else ():
            if other != written:
                put_in_place(other, target.with_name(other.name))
        put_in_place(written, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
