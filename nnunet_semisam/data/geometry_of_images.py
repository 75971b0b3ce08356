"""The geometry of a case from its image files: from headers where nnU-Net's reader is known, else from what it reads.

Axes and coordinates are those of :mod:`nnunet_semisam.data.geometry`. Labels stay closed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_semisam.data.geometry import (
    Geometry,
    checked_geometry,
    geometry_file,
    recorded_geometry,
    write_geometry,
)
from nnunet_semisam.data.image_headers import check_image_header, reason
from nnunet_semisam.data.raw_files import Files, image_files
from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

FLAT = 999  # nnU-Net's SimpleITKIO gives 2D images slices so many times as thick as their pixels are wide
LOGGER = logging.getLogger(__name__)


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
    return checked_geometry(properties["spacing"], origin, direction, shape, box)


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
        except OSError as error:  # a dataset that others share read-only
            LOGGER.warning("The geometry of cases cannot be kept (%s); the training goes on without.", error)
            break
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
    return checked_geometry(spacing[:3][::-1], origin, direction, shape[:3][::-1])


def _from_nibabel_header(file: str) -> Geometry:
    import nibabel

    image = nibabel.load(file)
    if image.ndim != 3:
        raise ValueError(f"it has {image.ndim} axes, nnU-Net's NibabelIO needs 3")
    origin, direction = _of_affine(image.affine)
    return checked_geometry(image.header.get_zooms()[::-1], origin, direction, image.shape[::-1])


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
