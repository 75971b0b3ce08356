"""Arrays as nnU-Net 2.8.1 stores them (``.b2nd``), and ``.npz``: opened with an error that names file and remedy."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.regular_files import check_regular_file

if TYPE_CHECKING:
    import blosc2

FRAME_START = b"\x9e\xa8b2frame\x00"  # of a file of blosc2, version 2: c-blosc2, README_CFRAME_FORMAT.rst
FRAME_METADATA = 87  # where its list of named metadata begins
ONLY_AN_ARRAY = b"\x93\xcd\x00\x00\xde\x00\x01\xa4b2nd"  # a size (2 bytes), one entry, and its name
MOST_NPZ_BYTES = 4 * 2**30
UNREADABLE = (
    *(RuntimeError, ValueError, OSError, KeyError, EOFError, MemoryError),
    *(OverflowError, TypeError),  # blosc2's, where a number or a name in its metadata is not what it should be
    *(zipfile.BadZipFile, zlib.error),
)


def open_array(path: str | Path, remedy: str, axes: int = 4, kinds: str = "f") -> blosc2.NDArray:
    """Open an array for partial reads, as nnU-Net does: one thread, memory-mapped.

    blosc2 compares the length that the header declares with that of the file; damage inside is found when it is read
    (:func:`read_part`).

    Args:
        path: The file.
        remedy: What to do if it is missing or damaged, for the error.
        axes: How many axes it must have; none of them may be empty.
        kinds: Allowed letters of ``numpy.dtype.kind``: ``f`` float, ``i`` signed and ``u`` unsigned integer.

    Raises:
        UserError: If it is no regular file, torn, no such array, or an array of another kind.
    """
    import blosc2

    check_regular_file(path, remedy)
    _check_frame(path, remedy)
    mmap = {} if os.name == "nt" else {"mmap_mode": "r"}  # as nnU-Net 2.8.1: it does not work on Windows
    try:
        array = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mmap)
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({printable(str(error), 300)}). {remedy}") from error
    if not isinstance(array, blosc2.NDArray):
        raise UserError(f"{path} holds a {type(array).__name__}, and an array is needed. {remedy}")
    if array.ndim != axes or 0 in array.shape or np.dtype(array.dtype).kind not in kinds:
        raise UserError(
            f"{path} holds an array of shape {array.shape} and type {array.dtype}; needed are {axes} axes, none of "
            f"them empty, and a type of the kind {' or '.join(kinds)}. {remedy}"
        )
    return array


def _check_frame(path: str | Path, remedy: str) -> None:
    """Refuse a file of blosc2 that is more than an array, before blosc2 sees it.

    By what else a header names blosc2 makes objects of a file that compute, and up to 4.13 it runs the source text
    that is in it; the newest release for Python 3.10 is older than that.
    """
    with open(path, "rb") as file:
        start = file.read(FRAME_METADATA + len(ONLY_AN_ARRAY))
    metadata = start[FRAME_METADATA:]
    without_size = metadata[:2] + metadata[4:]
    if not start.startswith(FRAME_START) or without_size != ONLY_AN_ARRAY[:2] + ONLY_AN_ARRAY[4:]:
        raise UserError(f"{path} cannot be read (it is no array as nnU-Net writes it). {remedy}")


def read_part(array: blosc2.NDArray, part: tuple[slice, ...] | slice, path: str | Path, remedy: str) -> np.ndarray:
    """Read a part of an array that :func:`open_array` opened.

    Raises:
        UserError: If the blocks of that part are damaged.
    """
    try:
        return array[part]
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged inside ({printable(str(error), 300)}). {remedy}") from error


def read_npz(path: str | Path, remedy: str) -> dict[str, np.ndarray]:
    """Return all arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        UserError: If it is no regular file, torn, holds objects, or more than memory should.
    """
    check_regular_file(path, remedy)
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is no npz file")
            unpacked = sum(part.file_size for part in file.zip.infolist())
            if unpacked > MOST_NPZ_BYTES:
                raise ValueError(f"it would unfold to {unpacked} bytes, at most {MOST_NPZ_BYTES} are read")
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({printable(str(error), 300)}). {remedy}") from error
