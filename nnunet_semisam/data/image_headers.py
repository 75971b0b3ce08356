"""What an image's header says, checked before a voxel is read: sizes, spacing, scaling, and the memory it asks for.

Readers believe headers: ITK takes a negative spacing for a positive one, reads voxels from the middle of the header, or
waits for a pipe that the header names. So whoever is about to read an image of others asks here first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.data.stored_voxels import (
    NIFTI_2_BYTES,
    NIFTI_ENDINGS,
    header_of,
    is_compressed,
    open_unpacked,
    refuse_cut_off,
)
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.regular_files import check_regular_file

if TYPE_CHECKING:
    from nibabel import Nifti1Header, Nifti2Header

REMEDY = "Fix or remove it."
GIB = 2**30
MOST_BYTES = 16 * GIB  # of one image as float32: a scan of the whole body has 3 GiB, and nnU-Net holds several copies
FLOAT_BYTES = 4
SMALLEST_PACKED = 1100  # deflate packs 1032 bytes into one, never more
FIRST_VOXEL = {b"n+1": 352, b"n+2": 544}  # magic of NIfTI-1 and NIfTI-2 in one file -> first byte behind the header
MOST_HEADER = 2**20
HEADERS_ALONE = (".mhd", ".nhdr")
VOXELS_INSIDE = re.compile(rb"[\r\n]elementdatafile[=:]local[\r\n]")


def check_image_header(path: str | Path, remedy: str = REMEDY, nifti: bool = False) -> None:
    """Refuse an image by its header; no voxel is read.

    Args:
        path: The file.
        remedy: What to do, for the error.
        nifti: Whether it is a NIfTI file whatever its name says.

    Raises:
        UserError: If it is no regular file, its header cannot be read or says what cannot be, its voxels are in
            another file, or there are more of them than :data:`MOST_BYTES` of memory hold.
    """
    path = Path(path)
    size = check_regular_file(path, remedy)
    try:
        if nifti or path.name.lower().endswith(NIFTI_ENDINGS):
            _check_nifti(path, size)
        else:
            _check_voxels_are_inside(path)
            _check_with_itk(path)
    except Exception as error:  # every library raises its own kinds; the header is wrong either way
        raise UserError(f"{path} cannot be read: {reason(error)}. {remedy}") from error


def check_image_file(path: str | Path) -> None:
    """Refuse an image by its header, or because it ends too early, before its voxels are kept in memory.

    Raises:
        UserError: As :func:`check_image_header`, or if a NIfTI file is cut off or damaged.
    """
    check_image_header(path)
    try:
        refuse_cut_off(Path(path))
    except Exception as error:  # as above
        raise UserError(f"{path} cannot be read: {reason(error)}. {REMEDY}") from error


def check_memory(shape: Sequence[int], values_per_voxel: int = 1) -> None:
    """Refuse what does not fit into memory.

    Raises:
        ValueError: If an image of this shape has more bytes than :data:`MOST_BYTES`.
    """
    needed = math.prod(int(length) for length in shape) * values_per_voxel * FLOAT_BYTES
    if needed > MOST_BYTES:
        times = " x ".join(str(int(length)) for length in shape)
        raise ValueError(f"{times} voxels are {needed / GIB:.1f} GiB, at most {MOST_BYTES // GIB} GiB are read")


def reason(error: BaseException) -> str:
    """Return the last line of an error's message, where readers say what is wrong, or the error's kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1].rstrip("."), 300) if lines else type(error).__name__


def _check_nifti(path: Path, size: int) -> None:
    with open_unpacked(path) as file:
        header = header_of(file.read(NIFTI_2_BYTES))
    shape = _nifti_shape(header)
    check_memory(shape)
    _check_nifti_offset(header)
    _check_nifti_numbers(header)
    expected = int(header["vox_offset"]) + math.prod(shape) * header.get_data_dtype().itemsize
    if expected > size * (SMALLEST_PACKED if is_compressed(path) else 1):
        raise ValueError(f"it is cut off: it has {size} bytes, and its header says {expected} unpacked")


def _nifti_shape(header: Nifti1Header | Nifti2Header) -> tuple[int, ...]:
    sizes = [int(length) for length in header["dim"]]
    axes = sizes[0]
    if not 1 <= axes <= 7:
        raise ValueError(f"it has {axes} axes, 1 to 7 are possible")
    shape = tuple(sizes[1 : axes + 1])
    if min(shape) < 1:
        raise ValueError(f"its sizes are {shape}, all must be positive")
    return shape


def _check_nifti_offset(header: Nifti1Header | Nifti2Header) -> None:
    magic = bytes(header["magic"].item())[:3]
    if magic not in FIRST_VOXEL:
        raise ValueError(f"its magic is {magic!r}, and one file with header and voxels has n+1 or n+2")
    offset = float(header["vox_offset"])
    if not FIRST_VOXEL[magic] <= offset < 2**53:
        raise ValueError(f"its voxels begin at byte {offset:g}, the first one possible is {FIRST_VOXEL[magic]}")


def _check_nifti_numbers(header: Nifti1Header | Nifti2Header) -> None:
    axes = min(int(header["dim"][0]), 3)
    for axis in range(1, axes + 1):
        spacing = float(header["pixdim"][axis])
        if header["dim"][axis] > 1 and not (math.isfinite(spacing) and spacing > 0):
            raise ValueError(f"its spacing along axis {axis} is {spacing:g} mm, and must be positive and finite")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = not (math.isnan(slope) or slope == 0)  # as nibabel and ITK: 0 and NaN mean that there is no scaling
    if math.isinf(slope) or (scaled and not math.isfinite(intercept)):
        raise ValueError(f"its scaling is {slope:g} x voxel + {intercept:g}, and must be finite")
    used = [("sform_code", ("srow_x", "srow_y", "srow_z")), ("qform_code", ("qoffset_x", "qoffset_y", "qoffset_z"))]
    for code, fields in [*used, ("qform_code", ("quatern_b", "quatern_c", "quatern_d"))]:
        numbers = [float(number) for field in fields for number in header[field].ravel()]
        if header[code] > 0 and not all(map(math.isfinite, numbers)):
            raise ValueError(f"{fields[0]} and the following say where it lies, and are not finite: {numbers}")


def _check_voxels_are_inside(path: Path) -> None:
    """Refuse the headers of MetaImage and NRRD that name another file for the voxels: it could be any.

    Readers end a line in more ways than one, and ours must not see fewer lines than they do.
    """
    name = path.name.lower()
    if name.endswith(HEADERS_ALONE):
        raise ValueError("it is a header alone, and the voxels must be in the same file: save it as .nii.gz")
    if name.endswith(".mha"):
        header = _start(path)
        inside = VOXELS_INSIDE.search(header)
        if inside is None or b"elementdatafile" in header[: inside.start() + 1]:
            raise ValueError("ElementDataFile must be LOCAL, with the voxels in the same file")
    elif name.endswith(".nrrd"):
        header = re.split(rb"\n\n|\r\n\r\n|\r\r", _start(path), maxsplit=1)
        if len(header) < 2:
            raise ValueError(f"its header does not end within {MOST_HEADER} bytes")
        if any(line.startswith(b"datafile:") for line in re.split(rb"[\r\n]+", header[0])):
            raise ValueError("it names a data file, and the voxels must be in the same file")


def _start(path: Path) -> bytes:
    """Return the first bytes of a file in lower case and without blanks."""
    with path.open("rb") as file:
        return file.read(MOST_HEADER).lower().translate(None, b" \t\v\f\0")


def _check_with_itk(path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError:
        if path.name.lower().endswith((".mha", ".nrrd", ".gipl")):
            raise
        return  # another reader's format: it says what is wrong
    shape, spacing = header.GetSize(), header.GetSpacing()
    if min(shape) < 1:
        raise ValueError(f"its sizes are {shape}, all must be positive")
    check_memory(shape, header.GetNumberOfComponents())
    if not all(math.isfinite(each) and each > 0 for each in spacing):
        raise ValueError(f"its spacing is {spacing} mm, and must be positive and finite")
