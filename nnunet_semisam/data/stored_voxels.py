"""The voxels that a file holds, where readers say something else; and their hash."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

NIFTI_ENDINGS = (".nii", ".nii.gz")
NIFTI_1_BYTES, NIFTI_2_BYTES = 348, 540  # lengths of the headers, and their first number
BLOCK_BYTES = 2**20


def refuse_cut_off(path: Path) -> None:
    """Refuse a NIfTI file that ends too early.

    ITK's reader fills what is missing with zeros without a word (SimpleITK 2.5.7): half a download looks like an image.

    Raises:
        ValueError: If the file is shorter than its header says, or its compressed stream is damaged.
    """
    if not path.name.endswith(NIFTI_ENDINGS):
        return
    from nibabel import Nifti1Header, Nifti2Header

    start, length = b"", 0
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                start = start or block[:NIFTI_2_BYTES]
                length += len(block)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"it is cut off or damaged: {error}") from error
    is_2 = NIFTI_2_BYTES in (int.from_bytes(start[:4], order) for order in ("little", "big"))
    header = Nifti2Header(start, check=False) if is_2 else Nifti1Header(start[:NIFTI_1_BYTES], check=False)
    expected = int(header["vox_offset"]) + int(np.prod(header.get_data_shape())) * header.get_data_dtype().itemsize
    if length < expected:
        raise ValueError(f"it is cut off: it holds {length} of {expected} bytes")


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
    import nibabel

    image = nibabel.load(path)
    return np.asanyarray(image.dataobj) if np.issubdtype(image.get_data_dtype(), np.floating) else read


def hash_of_voxels(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape and of its values as float32: equal however a file was packed or typed."""
    digest = hashlib.sha256(repr(tuple(array.shape)).encode())
    digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()
