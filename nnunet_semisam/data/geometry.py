"""Where the voxels of a case are: one small json file per case, so that nobody has to open nnU-Net's ``.pkl``.

nnU-Net keeps spacing, origin, direction and bounding box in ``CASE.pkl``, beside ``class_locations``: voxels per class,
drawn from the label. For a case whose label is hidden that file must stay closed. The files here are made from images
only, and they are made for 2D configurations too, whose plans lack the slice distance.

Array axes are in the order (Z, Y, X) in which nnU-Net's reader returns them, before ``transpose_forward`` and before
cropping. The axes of the patient's coordinate system are in the same order: SimpleITK's (x, y, z), which lead to the
left, the back and the head (LPS), are (z, y, x) here. So for an index ``(z, y, x)`` into the array::

    position_mm = origin + direction @ (spacing * index)
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.json_files import read_object, write_json

GEOMETRY_FOLDER = "semisam_geometry"
MOST_BYTES = 2**20
SMALLEST_DETERMINANT = 1e-3  # of unit vectors; 1 if they stand at right angles
LONGEST = 2**31  # voxels along an axis, and millimetres of anything
REMEDY = "Delete it and run 'nnunet-semisam preprocess' for this dataset again."

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
UPRIGHT: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of one case are; see the module's text for axes and coordinates.

    Attributes:
        spacing: Millimetres between voxels along Z, Y, X; positive.
        origin: Position of the voxel ``(0, 0, 0)`` in millimetres, patient coordinates in the order (z, y, x).
        direction: 3 x 3; column ``i`` is the unit vector along array axis ``i`` in patient coordinates (z, y, x).
        shape: Number of voxels along Z, Y, X before cropping.
        bbox_used_for_cropping: First and one behind the last voxel along Z, Y, X of what nnU-Net's preprocessing kept;
            ``None`` where it is not known: it takes voxels to tell, and of labeled cases only headers are read.
    """

    spacing: Vector
    origin: Vector
    direction: Matrix
    shape: tuple[int, int, int]
    bbox_used_for_cropping: Box | None = None


def geometry_file(preprocessed_dataset: Path, case: str) -> Path:
    """Return the file that holds the geometry of a case."""
    return preprocessed_dataset / GEOMETRY_FOLDER / f"{case}.json"


def write_geometry(preprocessed_dataset: Path, case: str, geometry: Geometry) -> None:
    """Write the geometry of a case; a reader sees the old file or the new one, never a part.

    Args:
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        case: Name of the case.
        geometry: What to write.
    """
    file = geometry_file(preprocessed_dataset, case)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(geometry))


def read_geometry(preprocessed_dataset: Path, case: str) -> Geometry | None:
    """Return the geometry of a case, or ``None`` if it has no file.

    Args:
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        case: Name of the case.

    Raises:
        UserError: If the file is damaged.
    """
    file = geometry_file(preprocessed_dataset, case)
    if not os.path.lexists(file):
        return None
    content = read_object(file, REMEDY, MOST_BYTES)
    try:
        return _from_json(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{file} does not hold the geometry of a case ({printable(repr(error))}). {REMEDY}") from error


def preprocessed_spacing(
    geometry: Geometry, configuration_spacing: Sequence[float], transpose_forward: Sequence[int]
) -> Vector:
    """Return the millimetres between voxels of a preprocessed case, along the axes of the preprocessed array.

    Args:
        geometry: Of the case.
        configuration_spacing: ``spacing`` of the plans' configuration: three numbers, or two for a 2D configuration,
            which keeps the slice distance of each case.
        transpose_forward: Of the plans.

    Example:
        >>> thick = Geometry((8.0, 1.5, 1.5), (0.0,) * 3, ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)), (10, 256, 216))
        >>> preprocessed_spacing(thick, [1.25, 1.25], [0, 1, 2])
        (8.0, 1.25, 1.25)
    """
    in_plans = [float(each) for each in configuration_spacing]
    if len(in_plans) == 2:
        in_plans = [geometry.spacing[transpose_forward[0]], *in_plans]
    return _vector(in_plans)


def preprocessed_direction(direction: Matrix, transpose_forward: Sequence[int]) -> Matrix:
    """Return where the axes of a preprocessed array lead: the columns in the order of its axes.

    Args:
        direction: Of the case, see :class:`Geometry`.
        transpose_forward: Of the plans.

    Example:
        >>> preprocessed_direction(((1.0, 0, 0), (0, -1.0, 0), (0, 0, 1.0)), [2, 0, 1])  # X, Z, Y
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
    """
    return _matrix([[row[axis] for axis in transpose_forward] for row in direction])


def recorded_geometry(preprocessed_dataset: Path, case: str) -> Geometry | None:
    """Return the geometry of a case, or ``None`` if it has no file or a damaged one, which can be written again."""
    try:
        return read_geometry(preprocessed_dataset, case)
    except UserError:
        return None  # damaged: it is written again


def checked_geometry(
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[Sequence[float]],
    shape: Sequence[int],
    bbox: Sequence[Sequence[int]] | None = None,
) -> Geometry:
    """Return numbers as a geometry, for the arguments see :class:`Geometry`.

    Raises:
        ValueError: If there are not three numbers each, one is not finite, or a length is not positive.
    """
    geometry = Geometry(
        spacing=_vector(spacing),
        origin=_vector(origin),
        direction=_matrix(direction),
        shape=_sizes(shape),
        bbox_used_for_cropping=None if bbox is None else _box(bbox),
    )
    if min(geometry.spacing) <= 0 or min(geometry.shape) < 1 or max(geometry.shape) > LONGEST:
        raise ValueError(f"spacing {geometry.spacing} and shape {geometry.shape} must be positive, and below {LONGEST}")
    if abs(np.linalg.det(geometry.direction)) < SMALLEST_DETERMINANT:
        raise ValueError(f"direction {geometry.direction} must be three axes that lead different ways")
    for (low, high), length in zip(geometry.bbox_used_for_cropping or (), geometry.shape, strict=False):
        if not 0 <= low < high <= length:
            raise ValueError(f"bbox_used_for_cropping {low} to {high} must lie within {length} voxels")
    return geometry


def _vector(values: Sequence[float]) -> Vector:
    z, y, x = values
    for value in (z, y, x):
        if isinstance(value, (str, bool)) or not abs(float(value)) < LONGEST:  # not: NaN is no number either
            raise ValueError(f"{value!r} must be a number, finite, and below {LONGEST}")
    return float(z), float(y), float(x)


def _matrix(rows: Sequence[Sequence[float]]) -> Matrix:
    first, second, third = (_vector(row) for row in rows)
    return first, second, third


def _sizes(values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (_whole(each) for each in values)
    return z, y, x


def _box(limits: Sequence[Sequence[int]]) -> Box:
    z, y, x = ((_whole(low), _whole(high)) for low, high in limits)
    return z, y, x


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{value} must be a whole number")
    return operator.index(value)


def _from_json(content: Mapping[str, Any]) -> Geometry:
    return checked_geometry(
        content["spacing"],
        content["origin"],
        content["direction"],
        content["shape"],
        content["bbox_used_for_cropping"],
    )
