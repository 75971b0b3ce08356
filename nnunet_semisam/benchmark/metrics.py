"""Overlap, surface distances in millimetres and volume errors of one segmentation, failures told apart.

A distance to an object that is not there is undefined. It is never scored as perfect: its ``value`` is ``None``, and
its ``scored`` value, which means and tests use, is the image's diagonal, more than any distance that could be measured.
Otherwise a trainer that misses the hard cases would be evaluated on the easy ones.

Surface distances are MONAI's. Surfaces are the voxels of a mask that touch what is outside it. An axis with a single
voxel has no outside, so in a single slice the surface is the outline.

nnU-Net reads a 2D image as a volume of one slice, with a thickness that means nothing. Such an image is measured as the
plane it is: areas in place of volumes, and pixels in place of millimetres where the file format knows no sizes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.benchmark.records import Score, ScoreStatus, known
from nnunet_semisam.data.stored_voxels import refuse_cut_off_quickly
from nnunet_semisam.errors import UserError, printable

if TYPE_CHECKING:
    import numpy as np

MM3_PER_ML = 1000.0
MEAN = "mean"  # in place of a label: over the labels of a case
UNITS = {"dice": "1", "hd95": "mm", "assd": "mm", "volume_error": "ml", "volume_bias": "ml"}  # of volumes
MM, PIXELS = "mm", "px"
PLACEHOLDER = 999  # times the largest pixel size: the thickness that nnU-Net's readers invent for a 2D image
HIGHER_IS_BETTER = {"dice": True, "hd95": False, "assd": False, "volume_error": False}


def units_of(axes: int, length: str = MM) -> dict[str, str]:
    """Return the unit of every metric, for arrays of 3 or 2 axes whose sizes are in ``length``."""
    size = UNITS["volume_error"] if axes == 3 else f"{length}2"
    return {**UNITS, "hd95": length, "assd": length, "volume_error": size, "volume_bias": size}


def score_masks(
    label: str, predicted: np.ndarray, ground_truth: np.ndarray, spacing_mm: Sequence[float], length: str = MM
) -> list[Score]:
    """Compare two masks.

    Args:
        label: Name for the result.
        predicted: Boolean, ``(Z, Y, X)`` or ``(Y, X)``.
        ground_truth: Boolean, of the same shape.
        spacing_mm: Voxel size along each axis of the arrays, in mm.
        length: What the unit of ``spacing_mm`` is called if it is not mm.

    Raises:
        ValueError: If the shapes differ.
    """
    if predicted.shape != ground_truth.shape or len(spacing_mm) != ground_truth.ndim:
        raise ValueError(
            f"Masks and spacing must fit, got {predicted.shape}, {ground_truth.shape} and {len(spacing_mm)} spacings."
        )
    predicted_voxels, true_voxels = int(predicted.sum()), int(ground_truth.sum())
    status = _status(predicted_voxels > 0, true_voxels > 0)
    dice = hd95 = assd = math.nan
    if status != ScoreStatus.ABSENT:
        dice = 2 * int((predicted & ground_truth).sum()) / (predicted_voxels + true_voxels)
    if status == ScoreStatus.OK:
        hd95, assd = surface_distances(predicted, ground_truth, spacing_mm)
    bias = (predicted_voxels - true_voxels) * voxel_size(spacing_mm)
    values = {"dice": dice, "hd95": hd95, "assd": assd, "volume_error": abs(bias), "volume_bias": bias}
    scored = dict(values)
    if status.is_failure:
        scored["hd95"] = scored["assd"] = diagonal_mm(ground_truth.shape, spacing_mm)
    units = units_of(ground_truth.ndim, length)
    return [Score(label, name, known(values[name]), known(scored[name]), status, units[name]) for name in values]


def _status(is_predicted: bool, is_there: bool) -> ScoreStatus:
    if is_predicted:
        return ScoreStatus.OK if is_there else ScoreStatus.INVENTED
    return ScoreStatus.MISSED if is_there else ScoreStatus.ABSENT


def score_nothing(label: str, ground_truth: np.ndarray, spacing_mm: Sequence[float], length: str = MM) -> list[Score]:
    """Score a case without a usable prediction: as bad as an empty one, and never better, even where nothing is."""
    size = float(ground_truth.sum()) * voxel_size(spacing_mm)
    worst = diagonal_mm(ground_truth.shape, spacing_mm)
    scored = {"dice": 0.0, "hd95": worst, "assd": worst, "volume_error": size, "volume_bias": -size}
    units = units_of(ground_truth.ndim, length)
    status = ScoreStatus.NO_PREDICTION
    return [Score(label, name, None, value, status, units[name]) for name, value in scored.items()]


def voxel_size(spacing_mm: Sequence[float]) -> float:
    """Return the volume of a voxel in ml, or the area of a pixel in the square of its own unit."""
    size = math.prod(spacing_mm)
    return size / MM3_PER_ML if len(spacing_mm) == 3 else size


def surface_distances(
    predicted: np.ndarray, ground_truth: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[float, float]:
    """Return the 95 % Hausdorff distance and the average symmetric surface distance of two filled masks, in mm."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    # MONAI warns of its own deprecated arguments. For good, not in a block: runs are scored in threads, and a block
    # that ends in one thread brings back the warnings of the other, or takes away all of the program's.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"monai\.")
    axes = _measured_axes(ground_truth.shape)
    shape = [ground_truth.shape[axis] for axis in axes]
    masks = [torch.from_numpy(mask.reshape(shape).copy())[None, None] for mask in (predicted, ground_truth)]
    options = {"include_background": True, "spacing": [float(spacing_mm[axis]) for axis in axes]}
    hd95 = compute_hausdorff_distance(*masks, percentile=95, **options)
    assd = compute_average_surface_distance(*masks, symmetric=True, **options)
    return float(hd95), float(assd)


def _measured_axes(shape: Sequence[int]) -> list[int]:
    """Return the axes along which there is more than one voxel; two at least, as MONAI needs them."""
    longer = [axis for axis, count in enumerate(shape) if count > 1]
    others = [axis for axis, count in enumerate(shape) if count == 1]
    return sorted([*longer, *others[: max(0, 2 - len(longer))]])


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the distance between opposite corner voxels, in mm."""
    return math.sqrt(sum(((count - 1) * size) ** 2 for count, size in zip(shape, spacing_mm, strict=True)))


def label_values(dataset_json: Mapping) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Return name -> label values of every foreground label or region, and the ignore label if there is one."""
    values: dict[str, tuple[int, ...]] = {}
    for name, value in dataset_json["labels"].items():
        values[name] = tuple(value) if isinstance(value, (list, tuple)) else (int(value),)
    ignore = values.pop("ignore", None)
    values.pop("background", None)
    return values, ignore[0] if ignore else None


def score_case(prediction: Path, label: Path, dataset_json: Mapping) -> list[Score]:
    """Score one case from its files.

    Args:
        prediction: Segmentation as ``nnUNetv2_predict`` wrote it; it may be missing.
        label: The label map: the ground truth.
        dataset_json: Content of dataset.json: names of labels or regions, ignore label, file ending.

    Raises:
        UserError: If the label map cannot be read.
    """
    import numpy as np

    names, ignore = label_values(dataset_json)
    true_map, spacing, length = _read(label, dataset_json)
    try:
        predicted_map = _read(prediction, dataset_json)[0] if prediction.is_file() else None
    except UserError:  # a torn file is no prediction, and counted as such
        predicted_map = None
    usable = predicted_map is not None and predicted_map.shape == true_map.shape
    if is_plane(true_map.shape, spacing):
        true_map, spacing = true_map[0], spacing[1:]
        predicted_map = predicted_map[0] if usable else None
    valid = np.ones(true_map.shape, bool) if ignore is None else true_map != ignore
    scores: list[Score] = []
    for name, values in names.items():
        true_mask = np.isin(true_map, values) & valid
        if usable:
            scores += score_masks(name, np.isin(predicted_map, values) & valid, true_mask, spacing, length)
        else:
            scores += score_nothing(name, true_mask, spacing, length)
    return scores


def is_plane(shape: Sequence[int], spacing: Sequence[float]) -> bool:
    """Return whether a reader of nnU-Net made this volume of a 2D image."""
    return shape[0] == 1 and math.isclose(spacing[0], PLACEHOLDER * max(spacing[1:]), rel_tol=1e-6)


def _read(path: Path, dataset_json: Mapping) -> tuple[np.ndarray, list[float], str]:
    """Return a label map ``(Z, Y, X)``, its spacing and the unit of it, by nnU-Net's reader for the dataset.

    Raises:
        UserError: If it cannot be read.
    """
    import numpy as np
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    try:
        refuse_cut_off_quickly(path)  # ITK fills what is missing with zeros
        reader = determine_reader_writer_from_dataset_json(dict(dataset_json), str(path), verbose=False)
        label_map, properties = reader().read_seg(str(path))
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # every reader raises its own kinds
        reason = printable(" ".join(str(error).split()), 300)
        raise UserError(f"{path} cannot be read ({reason}). Restore the file.") from error
    length = PIXELS if issubclass(reader, NaturalImage2DIO) else MM
    return np.rint(label_map[0]).astype(np.int16), [float(size) for size in properties["spacing"]], length
