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

import contextlib
import io
import logging
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_semisam.data.image_headers import check_image_header, reason
from nnunet_semisam.data.raw_files import Files, image_files
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.json_files import read_object, write_json

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

GEOMETRY_FOLDER = "semisam_geometry"
MOST_BYTES = 2**20
SMALLEST_DETERMINANT = 1e-3  # of unit vectors; 1 if they stand at right angles
LONGEST = 2**31  # voxels along an axis, and millimetres of anything
FLAT = 999  # nnU-Net's SimpleITKIO gives 2D images slices so many times as thick as their pixels are wide
REMEDY = "Delete it and run 'nnunet-semisam preprocess' for this dataset again."
LOGGER = logging.getLogger(__name__)

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


def geometry_of_files(files: Sequence[str | Path], reader: type[BaseReaderWriter]) -> Geometry:
    """Return the geometry of a case from its image files.

    Only headers are read where nnU-Net's reader is ``SimpleITKIO`` or ``NibabelIO``. Any other reader reads the voxels,
    too, since only its own code knows how it turns them.

    Args:
        files: The image of each channel; the first one counts, as for nnU-Net.
        reader: nnU-Net's reader class of the dataset (``PlansManager.image_reader_writer_class``).

    Returns:
        The geometry, without a bounding box.

    Raises:
        UserError: If the file cannot be read.
    """
    file = str(files[0])
    check_image_header(file)
    try:
        if reader.__name__ == "SimpleITKIO":
            return _from_simpleitk_header(file)
        if reader.__name__ == "NibabelIO":
            return _from_nibabel_header(file)
        with contextlib.redirect_stdout(io.StringIO()):  # a line for each tif file without a spacing
            data, properties = reader().read_images([str(each) for each in files])
        return geometry_of_properties(properties, data.shape[1:])
    except Exception as error:  # every reader raises its own kinds; the file is unreadable either way
        raise UserError(f"{file}: its header cannot be read: {reason(error)}. Fix or remove it.") from error


def geometry_of_properties(
    properties: Mapping[str, Any],
    shape: Sequence[int],
    transpose_forward: Sequence[int] = (0, 1, 2),
    bbox: Sequence[Sequence[int]] | None = None,
) -> Geometry:
    """Return the geometry of a case from what nnU-Net's reader and preprocessor said about it.

    Args:
        properties: What the reader returned beside the voxels.
        shape: Voxels along Z, Y, X, as the reader returned them.
        transpose_forward: Of the plans; the preprocessor's axis ``i`` is axis ``transpose_forward[i]`` of the reader.
        bbox: ``bbox_used_for_cropping`` of the preprocessor, in its own axes.
    """
    if "sitk_stuff" in properties:
        stuff = properties["sitk_stuff"]
        origin, direction = _in_three_axes(stuff["origin"], stuff["direction"])
    elif "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        origin, direction = _of_affine(stuff.get("reoriented_affine", stuff["original_affine"]))
    else:  # photos, and tif files: they say nothing about the patient
        origin, direction = np.zeros(3), np.eye(3)
    box = None
    if bbox is not None:
        box = [bbox[list(transpose_forward).index(axis)] for axis in range(3)]
    return _geometry(properties["spacing"], origin, direction, shape, box)


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


def ensure_geometry(
    raw_dataset: Path,
    preprocessed_dataset: Path,
    cases: Iterable[str],
    dataset_json: Mapping[str, Any],
    plans: Mapping[str, Any],
) -> int:
    """Write the geometry of cases that have none, or a damaged one, from the headers of raw images; labels stay closed.

    Cases whose raw images are not there, and such that cannot be read, are left without: training works without them.

    Args:
        raw_dataset: ``$nnUNet_raw/DATASET``; it need not exist.
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        cases: Names of labeled, hidden or unlabeled cases.
        dataset_json: nnU-Net's dataset.json.
        plans: nnU-Net's plans.

    Returns:
        How many files were written.
    """
    missing = [case for case in cases if recorded_geometry(preprocessed_dataset, case) is None]
    if not missing or not raw_dataset.is_dir():
        return 0
    images = image_files(raw_dataset, dataset_json)
    known: Files = {**images["Ul"], **images["Tr"]}
    written = 0
    for case in missing:
        if case not in known or not os.path.lexists(known[case][0]):
            continue
        try:
            write_geometry(preprocessed_dataset, case, geometry_of_files(known[case], reader_of_plans(plans)))
            written += 1
        except UserError as error:
            LOGGER.warning("The geometry of %s is not known: %s", case, error)
    return written


def write_geometry_of_labeled(
    raw_dataset: Path, preprocessed_dataset: Path, dataset_json: Mapping[str, Any], plans: Mapping[str, Any]
) -> list[str]:
    """Write the geometry of all cases of ``imagesTr`` whose file is missing or says something else.

    Args:
        raw_dataset: ``$nnUNet_raw/DATASET``.
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        dataset_json: nnU-Net's dataset.json.
        plans: nnU-Net's plans.

    Returns:
        A sentence for every image that cannot be read.
    """
    reader = reader_of_plans(plans)
    problems = []
    for case, files in image_files(raw_dataset, dataset_json)["Tr"].items():
        try:
            geometry = geometry_of_files(files, reader)
        except UserError as error:
            problems.append(str(error))
            continue
        if recorded_geometry(preprocessed_dataset, case) != geometry:
            try:
                write_geometry(preprocessed_dataset, case, geometry)
            except OSError as error:
                raise UserError(
                    f"{geometry_file(preprocessed_dataset, case)} cannot be written ({error}). Make room, or see who "
                    "may write there, and run this again."
                ) from error
    return problems


def reader_of_plans(plans: Mapping[str, Any]) -> type[BaseReaderWriter]:
    """Return nnU-Net's reader class that the plans name."""
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    return recursive_find_reader_writer_by_name(plans["image_reader_writer"])


def recorded_geometry(preprocessed_dataset: Path, case: str) -> Geometry | None:
    """Return the geometry of a case, or ``None`` if it has no file or a damaged one, which can be written again."""
    try:
        return read_geometry(preprocessed_dataset, case)
    except UserError:
        return None  # damaged: it is written again


def _from_simpleitk_header(file: str) -> Geometry:
    import SimpleITK as sitk  # noqa: N813

    header = sitk.ImageFileReader()
    header.SetFileName(file)
    header.ReadImageInformation()
    dimension = header.GetDimension()
    if dimension not in (2, 3, 4):
        raise ValueError(f"it has {dimension} axes, nnU-Net reads 2, 3 or 4")
    origin, direction = _in_three_axes(header.GetOrigin(), header.GetDirection())
    spacing, shape = [abs(each) for each in header.GetSpacing()], header.GetSize()
    if dimension == 2:
        spacing, shape = [*spacing, FLAT * max(spacing)], (*shape, 1)
    return _geometry(spacing[:3][::-1], origin, direction, shape[:3][::-1])


def _from_nibabel_header(file: str) -> Geometry:
    import nibabel

    image = nibabel.load(file)
    if image.ndim != 3:
        raise ValueError(f"it has {image.ndim} axes, nnU-Net's NibabelIO needs 3")
    origin, direction = _of_affine(image.affine)
    return _geometry(image.header.get_zooms()[::-1], origin, direction, image.shape[::-1])


def _in_three_axes(origin_xyz: Sequence[float], direction_xyz: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return SimpleITK's origin and direction of 2, 3 or 4 axes for three, in the order (z, y, x)."""
    dimension = len(origin_xyz)
    spatial = min(dimension, 3)
    origin, direction = np.zeros(3), np.eye(3)
    origin[:spatial] = origin_xyz[:spatial]
    direction[:spatial, :spatial] = np.reshape(direction_xyz, (dimension, dimension))[:spatial, :spatial]
    return origin[::-1], direction[::-1, ::-1]


def _of_affine(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return origin and direction, in the order (z, y, x), of nibabel's affine, which leads to RAS."""
    to_lps = np.diag([-1.0, -1.0, 1.0])
    axes = to_lps @ np.asarray(affine, dtype=float)[:3, :3]
    direction = axes / np.linalg.norm(axes, axis=0)
    origin = to_lps @ np.asarray(affine, dtype=float)[:3, 3]
    return origin[::-1], direction[::-1, ::-1]


def _geometry(
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[Sequence[float]],
    shape: Sequence[int],
    bbox: Sequence[Sequence[int]] | None = None,
) -> Geometry:
    """Return plain Python numbers as a geometry.

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
    return _geometry(
        content["spacing"],
        content["origin"],
        content["direction"],
        content["shape"],
        content["bbox_used_for_cropping"],
    )
