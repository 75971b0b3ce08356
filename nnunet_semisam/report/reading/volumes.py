"""Images and label maps of a case, turned so that they can be looked at slice by slice.

Shapes in this file: ``(S, H, W)`` slices, rows and columns as they are shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.data.image_headers import check_image_header, reason
from nnunet_semisam.data.stored_voxels import refuse_cut_off
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    import numpy as np

THICK = 1.5  # an axis whose spacing is that many times the others' is the one that was scanned slice by slice
MARGIN = 0.35  # around the foreground, as a share of its extent
LEAST_SHARE = 0.4  # of an axis that is shown at least
MOST_SLICES = 24
OUTER_SLICES = 1  # shown beyond the foreground on either side
WINDOW = (0.5, 99.5)  # percentiles of what is shown
MOST_BYTES = 4 * 2**30  # of the voxels of a file: what is read must fit into memory several times
BYTES_PER_NUMBER = 4  # of a voxel, about: once it is shown
SMALLEST_SPACING, LARGEST_SPACING = 1e-6, 1e4  # mm
LARGEST_LABEL = 2**16
AXES = (2, 3)
REMEDY = "The page can be made without it."
GROUND_TRUTH = "ground truth"  # source of a label map; other sources are names of runs


@dataclass(frozen=True)
class CaseVolumes:
    """A case, cut to what is worth seeing.

    Attributes:
        image: ``(S, H, W)``, uint8.
        masks: Source (``GROUND_TRUTH`` or a run's name) -> label map ``(S, H, W)``; ``None`` if there is no usable
            file.
        slices: Number of every shown slice in the file, counted from 1. They fall where the file runs the other way.
        total: Number of slices in the file.
        axis: Axis of the file that slices are counted along: 1 is its first (x), 3 its third (z).
        spacing_mm: Of rows and columns.
        window: Intensities shown black and white.
        oriented: Whether the header's directions were used, so that patient right is at the left of an axial slice.
        problems: Source -> why it has no label map.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray | None]
    slices: list[int]
    total: int
    axis: int
    spacing_mm: tuple[float, float]
    window: tuple[float, float]
    oriented: bool
    problems: dict[str, str] = field(default_factory=dict)


def read_case(image_path: Path, mask_paths: Mapping[str, Path], most_slices: int = MOST_SLICES) -> CaseVolumes:
    """Read a case and cut it to its foreground.

    Args:
        image_path: First channel of the image.
        mask_paths: Source -> label map; ``GROUND_TRUTH`` is among them.
        most_slices: More are left out evenly.

    Raises:
        UserError: If the image cannot be shown; a label map that cannot is ``None`` and has a problem.
    """
    import numpy as np

    original = read_file(image_path)
    oriented = original.GetDimension() == 3 and original.GetNumberOfComponentsPerPixel() == 1
    image = orient(original, oriented)
    spacing = array_spacing(image)
    axis = slice_axis(spacing)
    array = as_slices(image, axis)
    if array.dtype.kind not in "iufb":
        raise UserError(f"{image_path} holds numbers of the type {array.dtype}, which has no grey.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{image_path} holds voxels that are not finite (NaN or infinite).")
    masks: dict[str, np.ndarray | None] = {}
    problems: dict[str, str] = {}
    for name, path in mask_paths.items():
        try:
            masks[name] = as_slices(orient(_read_mask(path, original), oriented), axis)
        except UserError as error:
            masks[name] = None
            problems[name] = str(error)

    span, rows, columns = _cut(array, [mask for mask in masks.values() if mask is not None])
    chosen = choose_slices(span, most_slices)
    shown = array[chosen][:, rows, columns].astype(np.float32)
    low, high = (float(value) for value in np.percentile(shown, WINDOW))
    gray = np.clip((shown - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    cut = {name: None if mask is None else mask[chosen][:, rows, columns] for name, mask in masks.items()}

    if oriented:
        file_axis, indices = in_file(original, image, axis)
    else:
        file_axis, indices = 2 - axis, list(range(len(array)))
    return CaseVolumes(
        image=gray,
        masks=cut,
        slices=[indices[i] + 1 for i in chosen],
        total=len(array),
        axis=file_axis + 1,
        spacing_mm=tuple(size for i, size in enumerate(spacing) if i != axis),
        window=(low, high),
        oriented=oriented,
        problems=problems,
    )


def read_file(path: Path) -> Any:
    """Read an image or label map whose header promises something that can be shown.

    Raises:
        UserError: If it is no regular file, no image, of four axes, too large for the memory, or torn.
    """
    import SimpleITK

    check_image_header(path, REMEDY)
    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
        _check_size(path, header)
        refuse_cut_off(path)
        return header.Execute()
    except UserError:
        raise
    except (RuntimeError, MemoryError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}).") from error


def _check_size(path: Path, header: Any) -> None:
    size = header.GetSize()
    shown = " x ".join(map(str, size))
    if len(size) not in AXES or 0 in size:
        raise UserError(f"{path} has the size {shown}; images of 2 or 3 axes can be shown.")
    if not all(SMALLEST_SPACING <= one <= LARGEST_SPACING for one in header.GetSpacing()):
        raise UserError(f"{path} has voxels of the size {' x '.join(f'{one:g}' for one in header.GetSpacing())} mm.")
    num_bytes = math.prod(size) * header.GetNumberOfComponents() * BYTES_PER_NUMBER
    if num_bytes > MOST_BYTES:
        raise UserError(
            f"{path} has the size {shown}, which takes {num_bytes / 2**30:.1f} GiB; at most {MOST_BYTES / 2**30:.0f} "
            "GiB are read for a page."
        )


def in_file(original: Any, turned: Any, axis: int) -> tuple[int, list[int]]:
    """Return the file's axis that slices of the turned image are counted along, and each slice's index on it.

    Args:
        original: The image as its file has it.
        turned: The same voxels with their axes swapped and reversed.
        axis: Of the turned array ``(Z, Y, X)``.
    """
    turned_axis = 2 - axis  # SimpleITK counts x, y, z
    step = [0, 0, 0]
    step[turned_axis] = 1
    first = original.TransformPhysicalPointToIndex(turned.TransformIndexToPhysicalPoint([0, 0, 0]))
    second = original.TransformPhysicalPointToIndex(turned.TransformIndexToPhysicalPoint(step))
    (file_axis,) = [i for i in range(3) if first[i] != second[i]]
    direction = second[file_axis] - first[file_axis]
    indices = [first[file_axis] + i * direction for i in range(turned.GetSize()[turned_axis])]
    return file_axis, indices


def slice_axis(spacing: Sequence[float]) -> int:
    """Return the axis to page along: the one with far the thickest voxels, else the first."""
    thickest = max(range(3), key=lambda axis: spacing[axis])
    others = [size for axis, size in enumerate(spacing) if axis != thickest]
    return thickest if spacing[thickest] >= THICK * max(others) else 0


def choose_slices(span: slice, most: int) -> list[int]:
    """Return at most ``most`` slices of a span, evenly spaced, first and last among them."""
    count = span.stop - span.start
    if count <= most:
        return list(range(span.start, span.stop))
    return [span.start + round(i * (count - 1) / (most - 1)) for i in range(most)]


def _read_mask(path: Path, image: Any) -> Any:
    """Return a label map on the grid of its image.

    Raises:
        UserError: If it is missing, torn, of another size, or holds something else than labels.
    """
    import numpy as np
    import SimpleITK

    mask = read_file(path)
    if mask.GetSize() != image.GetSize():
        sizes = [" x ".join(map(str, one.GetSize())) for one in (mask, image)]
        raise UserError(f"{path} has the size {sizes[0]}, its image {sizes[1]}.")
    if mask.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{path} has {mask.GetNumberOfComponentsPerPixel()} numbers per voxel, a label map has one.")
    values = SimpleITK.GetArrayViewFromImage(mask)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise UserError(f"{path} holds numbers that are no labels.")
    if values.min() < 0 or values.max() > LARGEST_LABEL:
        raise UserError(f"{path} holds labels from {values.min():g} to {values.max():g}.")
    mask.CopyInformation(image)  # labels lie on the voxels of the image, whatever their header says
    return mask


def orient(image: Any, oriented: bool) -> Any:
    """Return the image turned so that axial slices show the patient's right at the left, or as it is."""
    import SimpleITK

    return SimpleITK.DICOMOrient(image, "LPS") if oriented else image


def as_slices(image: Any, axis: int) -> np.ndarray:
    """Return ``(S, H, W)``: slices along an axis of the array ``(Z, Y, X)``, the head up."""
    import numpy as np

    array = np.moveaxis(_array(image), axis, 0)
    return array[:, ::-1] if axis else array  # coronal and sagittal slices have z as their rows


def _array(image: Any) -> np.ndarray:
    """Return ``(Z, Y, X)`` of a grey image; a plane becomes one slice, colours their mean."""
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.mean(axis=-1)
    return array if array.ndim == 3 else array[None]


def array_spacing(image: Any) -> list[float]:
    """Return millimetres between voxels along the axes of the array ``(Z, Y, X)``."""
    spacing = [float(size) for size in reversed(image.GetSpacing())]
    return spacing if len(spacing) == 3 else [max(spacing), *spacing]


def _cut(array: np.ndarray, masks: Sequence[np.ndarray]) -> list[slice]:
    """Return the slices, rows and columns that hold all foreground of all masks, and a margin."""
    import numpy as np

    together = np.zeros(array.shape, bool)
    for mask in masks:
        together |= mask > 0
    spans = []
    for axis, size in enumerate(array.shape):
        others = tuple(i for i in range(3) if i != axis)
        places = np.flatnonzero(together.any(axis=others))
        if len(places) == 0:
            spans.append(slice(0, size))
            continue
        first, last = int(places[0]), int(places[-1]) + 1
        margin = OUTER_SLICES if axis == 0 else round(MARGIN * (last - first)) + 1
        if axis:
            margin = max(margin, round((LEAST_SHARE * size - (last - first)) / 2))
        spans.append(slice(max(0, first - margin), min(size, last + margin)))
    return spans
