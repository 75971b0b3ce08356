"""The voxels that a file holds, where readers say something else; and their hash."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nnunet_semisam.io.hashes import sha256_of_bytes

if TYPE_CHECKING:
    import numpy as np
    from nibabel import Nifti1Header, Nifti2Header

NIFTI_ENDINGS = (".nii", ".nii.gz")
NIFTI_1_BYTES, NIFTI_2_BYTES = 348, 540  # lengths of the headers, and their first number
BLOCK_BYTES = 2**20
MOST_BEHIND = 64 * 2**20  # bytes behind the voxels: no program of use writes there what is worth unpacking
GZIP_LENGTH_BYTES = 4
GZIP_MAGIC = b"\x1f\x8b"


def is_compressed(path: Path) -> bool:
    """Return whether a file is gzip, whatever its name says.

    Raises:
        OSError: If the file cannot be opened.
    """
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip if it is compressed, whatever its name says.

    Raises:
        OSError: If the file cannot be opened.
    """
    return gzip.open(path) if is_compressed(path) else path.open("rb")


def refuse_cut_off(path: Path) -> None:
    """Refuse a NIfTI file that ends too early.

    ITK's reader fills what is missing with zeros without a word (SimpleITK 2.5.7): half a download looks like an image.

    Raises:
        ValueError: If the file is shorter than its header says or far longer, or its compressed stream is damaged.
    """
    if not path.name.endswith(NIFTI_ENDINGS):
        return
    try:
        with open_unpacked(path) as file:
            start = file.read(NIFTI_2_BYTES)
            header = header_of(start)
            expected = int(header["vox_offset"]) + _voxel_bytes(header)
            length = len(start)
            while length <= expected + MOST_BEHIND and (block := file.read(BLOCK_BYTES)):
                length += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is cut off or damaged: {error}") from error
    if length > expected + MOST_BEHIND:
        raise ValueError(f"it goes on behind its voxels, which end at byte {expected}: it is damaged or crafted")
    if length < expected:
        raise ValueError(f"it is cut off: it holds {length} of {expected} bytes")


def _voxel_bytes(header: Nifti1Header | Nifti2Header) -> int:
    return math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize


def refuse_cut_off_quickly(path: Path) -> None:
    """Refuse a NIfTI file that ends too early, for readers that notice all other damage; voxels are not unpacked.

    A gzip file ends with the length of what is in it; only if that is not as the header says is all of it unpacked.

    Raises:
        ValueError: As :func:`refuse_cut_off`.
    """
    if not path.name.endswith(NIFTI_ENDINGS):
        return
    with open_unpacked(path) as file:
        header = header_of(file.read(NIFTI_2_BYTES))
    expected = int(header["vox_offset"]) + _voxel_bytes(header)
    if is_compressed(path):
        with path.open("rb") as file:
            file.seek(-GZIP_LENGTH_BYTES, os.SEEK_END)
            whole = int.from_bytes(file.read(), "little") == expected % 2 ** (8 * GZIP_LENGTH_BYTES)
    else:
        whole = path.stat().st_size >= expected
    if not whole:
        refuse_cut_off(path)


def voxels_as_stored(path: Path, read: np.ndarray) -> np.ndarray:
    """Return the voxels of an image, NaN and infinity included.

    ITK's NIfTI reader turns both into 0 without a word (SimpleITK 2.5.7), so NIfTI files of floats are read again.

    Args:
        path: The file.
        read: What a reader made of it, any shape.

    Returns:
        The same voxels; for NIfTI files of floats in the file's own axis order.
    """
    if not path.name.endswith(NIFTI_ENDINGS):
        return read
    import numpy as np
    from nibabel import Nifti1Image, Nifti2Image

    with open_unpacked(path) as file:
        start = file.read(NIFTI_2_BYTES)
        if header_of(start).get_data_dtype().kind != "f":
            return read
        content = start + file.read()
    kind = Nifti2Image if _is_nifti_2(start) else Nifti1Image
    return np.asanyarray(kind.from_bytes(content).dataobj)


def hash_of_voxels(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape and of its values as float32: equal however a file was packed or typed."""
    import numpy as np

    shape = repr(tuple(array.shape)).encode()
    return sha256_of_bytes(shape, np.ascontiguousarray(array, dtype="<f4").tobytes())


def _is_nifti_2(start: bytes) -> bool:
    return NIFTI_2_BYTES in _first_number(start)


def _first_number(start: bytes) -> tuple[int, int]:
    """Return the first four bytes as a number, little end first and big end first."""
    return int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")


def header_of(start: bytes) -> Nifti1Header | Nifti2Header:
    """Return the NIfTI header in the first :data:`NIFTI_2_BYTES` of a file, unpacked; its values are not checked.

    Raises:
        ValueError: If there are fewer bytes than a header has, or their first number is no header's length.
    """
    from nibabel import Nifti1Header, Nifti2Header

    kind, length = (Nifti2Header, NIFTI_2_BYTES) if _is_nifti_2(start) else (Nifti1Header, NIFTI_1_BYTES)
    if len(start) < length:
        raise ValueError(f"it is cut off: it holds {len(start)} bytes, its header alone has {length}")
    if length not in _first_number(start):
        raise ValueError(f"it is no NIfTI file: its first number is no length of a header, {length}")
    return kind(start[:length], check=False)
