"""Files before they are read: regular ones, with a header that can be right and no more voxels than memory holds.

One function for each kind of file that a converter reads; :class:`~.case.Source` knows which one it needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.data.image_headers import check_image_header, check_memory, reason
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.regular_files import MIB, check_regular_file

REMEDY = "Download or export it again."
SPACING_NEEDED = 'It must hold {"spacing": [z, y, x]}, three positive numbers.'
MOST_SPACING_FILE = MIB
TIF, PHOTO, JSON = (".tif", ".tiff"), (".png", ".bmp"), ".json"
NUMBERS = "biuf"  # numpy's kinds of voxels: bool, integers, floats
SMALLEST_MM, LARGEST_MM = 1e-6, 1e6  # a nanometre, a kilometre: no scanner is outside
MOST_ORIGIN_MM = 1e9


def check_file(path: Path, check: Callable[[Path], None] | None = None) -> None:
    """Refuse a file by what it is and by its header; no voxel is read.

    Args:
        path: The file.
        check: Looks at the header; by default one that is chosen by the ending of the name.

    Raises:
        UserError: If it cannot be read, or its header cannot be right. The message names the file and a remedy.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: its name is no text in UTF-8, which image readers need. Rename it.") from error
    check_regular_file(path, REMEDY)
    try:
        (check or _check_of(path))(path)
    except UserError:
        raise
    except Exception as error:  # every library raises its own kinds; the header is wrong either way
        raise UserError(f"{path} cannot be read: {reason(error)}. {REMEDY}") from error


def _check_of(path: Path) -> Callable[[Path], None]:
    name = path.name.lower()
    if name.endswith(JSON):
        return check_spacing_file
    if name.endswith(TIF):
        return check_tif
    return check_photo if name.endswith(PHOTO) else check_image


def check_image(path: Path) -> None:
    """Check the header of a file that SimpleITK reads."""
    check_image_header(path, REMEDY)


def check_nifti(path: Path) -> None:
    """Check the header of a NIfTI file, whatever its name."""
    check_image_header(path, REMEDY, nifti=True)


def check_tif(path: Path) -> None:
    """Check sizes and type of a tif file, volume or photo.

    Raises:
        ValueError: If it does not hold numbers, or more of them than memory.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise ValueError("it holds no image")
        series = file.series[0]
        _check_array(series.shape, series.dtype)
        parts = [part for page in file.pages for part in zip(page.dataoffsets, page.databytecounts, strict=True)]
        end, size = max(sum(part) for part in parts), file.filehandle.size
        if end > size:
            raise ValueError(f"it is cut off: it has {size} bytes, and its voxels end at byte {end}")


def check_photo(path: Path) -> None:
    """Check the sizes of a photo."""
    from PIL import Image

    with Image.open(path) as photo:
        check_memory(photo.size, len(photo.getbands()))


def check_spacing_file(path: Path) -> None:
    """Check the file beside a tif volume; see :func:`read_spacing`."""
    read_spacing(path)


def read_spacing(path: Path) -> list[float]:
    """Return the millimetres along z, y, x that stand in a json file beside a tif volume.

    Raises:
        UserError: If it does not hold three positive numbers.
    """
    spacing = read_object(path, SPACING_NEEDED, MOST_SPACING_FILE).get("spacing")
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(_is_length(each) for each in spacing):
        raise UserError(
            f"{path}: spacing is {shown(spacing)}. {SPACING_NEEDED} They are millimetres, {SMALLEST_MM:g} to "
            f"{LARGEST_MM:g}."
        )
    return [float(each) for each in spacing]


def check_h5(path: Path, key: str) -> None:
    """Check the array ``key`` of an h5 file of UA-MT.

    Raises:
        ValueError: If there is none, it does not have the axes x y z, holds no numbers, does not fit into memory, or
            lies in another file.
        UserError: If h5py is not installed.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if key not in file and file.get(key, getlink=True) is None:
            raise ValueError(f"it has no array {key!r}, only {', '.join(sorted(file)) or 'nothing'}")
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"its {key!r} is a link, and the array must be in the file")
        array = file[key]
        if not isinstance(array, h5py.Dataset):
            raise ValueError(f"its {key!r} is a {type(array).__name__}, and must be an array")
        if array.is_virtual or array.external:
            raise ValueError(f"its {key!r} lies in another file, and must be in this one")
        if array.shape is None or len(array.shape) != 3:
            raise ValueError(f"{key} must have the axes x y z, has the shape {array.shape}")
        _check_array(array.shape, array.dtype)


def _check_array(shape: Sequence[int], dtype: Any) -> None:
    if dtype is None or dtype.kind not in NUMBERS or dtype.itemsize > 8:
        raise ValueError(f"its voxels are of the type {dtype}, and must be whole numbers or floats")
    if min(shape, default=0) < 1:
        raise ValueError(f"its sizes are {tuple(shape)}, all must be positive")
    check_memory(shape, values_per_voxel=max(1, dtype.itemsize // 4))


def check_geometry(spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]) -> None:
    """Refuse a place in space that no scanner has.

    Args:
        spacing: Millimetres along every axis.
        origin: Millimetres.
        direction: A square matrix, row after row.

    Raises:
        ValueError: If a number is not finite, a spacing is not positive or absurd, or the axes are no axes.
    """
    if not all(_is_length(each) for each in spacing):
        raise ValueError(
            f"its spacing is {_text(spacing)} mm, and must be positive, {SMALLEST_MM:g} to {LARGEST_MM:g} mm"
        )
    if not all(math.isfinite(each) and abs(each) <= MOST_ORIGIN_MM for each in origin):
        raise ValueError(f"its origin is {_text(origin)} mm, and must be finite, at most {MOST_ORIGIN_MM:g} mm away")
    if not all(math.isfinite(each) and abs(each) <= 1.001 for each in direction) or not any(direction):
        raise ValueError(f"its axes lead to {_text(direction)}, and must be directions of length 1")


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and SMALLEST_MM <= value <= LARGEST_MM


def _text(numbers: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
