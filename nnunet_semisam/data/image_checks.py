"""What makes an image unfit for preprocessing, or for learning from it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_semisam.data.image_headers import check_memory
from nnunet_semisam.data.stored_voxels import voxels_as_stored
from nnunet_semisam.errors import UserError

SPACING_FACTOR = 8.0  # a slice distance of 1 mm where the plans say 10 mm is a lost header, not another scanner


def check_resampled(
    shape: Sequence[int],
    channels: int,
    spacing_mm: Sequence[float],
    manager: PlansManager,
    configuration: ConfigurationManager,
) -> None:
    """Refuse an image that would not fit into memory after resampling.

    Raises:
        ValueError: If the spacing of the plans is too fine for it.
    """
    order = manager.transpose_forward
    shape, spacing = [shape[axis] for axis in order], [spacing_mm[axis] for axis in order]
    target = [*spacing[: 3 - len(configuration.spacing)], *configuration.spacing]
    resampled = [max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, target, strict=True)]
    try:
        check_memory(resampled, channels)
    except ValueError as error:
        steps = " x ".join(f"{step:g}" for step in target)
        raise ValueError(f"at the spacing of the plans, {steps} mm, its {error}") from error


def check_preprocessed(data: np.ndarray) -> None:
    """Refuse what a network cannot learn from; the raw voxels were all finite, and not constant.

    Raises:
        ValueError: If a channel has values that are not finite, or all have one value only.
    """
    for channel, image in enumerate(data):
        if not np.isfinite([image.min(), image.max()]).all():  # NaN in one voxel makes both NaN
            raise ValueError(f"channel {channel} is NaN or infinite after normalization: its intensities are too large")
    if _shows_nothing(data):
        raise ValueError(f"it is constant ({_values(data)}) after normalization with these plans")


def _shows_nothing(data: np.ndarray) -> bool:
    """Return whether every channel is constant; some may be: an empty mask, a sequence that was not taken."""
    return all(image.min() == image.max() for image in data)


def _values(data: np.ndarray) -> str:
    return ", ".join(f"{image.flat[0]:g}" for image in data)


def count_not_finite(images: Sequence[str], data: np.ndarray) -> int:
    """Return how many stored voxels of an image's files are NaN or infinite."""
    parts = data if len(images) == len(data) else [data] * len(images)
    stored = (voxels_as_stored(Path(image), part) for image, part in zip(images, parts, strict=True))
    return sum(int(voxels.size - np.isfinite(voxels).sum()) for voxels in stored)


def check_image(names: str, data: np.ndarray, not_finite: int, num_channels: int) -> None:
    """Refuse an image whose voxels cannot be learned from, as its reader gave them.

    Args:
        names: The files, for the message.
        data: ``(C, Z, Y, X)``.
        not_finite: How many stored voxels are NaN or infinite.
        num_channels: How many channels dataset.json asks for.

    Raises:
        UserError: If the image is unfit.
    """
    if len(data) != num_channels:
        raise UserError(
            f"{names}: holds {len(data)} channel(s), dataset.json asks for {num_channels}. Fix or remove it."
        )
    if not_finite:
        raise UserError(
            f"{names}: holds {not_finite} voxels that are NaN or infinite; all must be finite. Fix or remove it."
        )
    if not np.isfinite([data.min(), data.max()]).all():
        raise UserError(
            f"{names}: holds values beyond {np.finfo(np.float32).max:.1e}, which nnU-Net's float32 cannot hold. Fix or "
            "remove it."
        )
    if _shows_nothing(data):
        raise UserError(f"{names}: is constant ({_values(data)}): no image. Fix or remove it.")


def check_spacing(names: str, spacing_mm: Sequence[float], plans: dict) -> None:
    """Refuse a voxel size, Z, Y, X in mm, that no scanner of these plans can have had.

    Raises:
        UserError: If an axis is off by :data:`SPACING_FACTOR` or more.
    """
    planned = [0.0] * 3
    for axis, value in zip(plans["transpose_forward"], plans["original_median_spacing_after_transp"], strict=True):
        planned[axis] = value
    for axis, (got, wanted) in enumerate(zip(spacing_mm, planned, strict=True)):
        if not got > 0 or max(got / wanted, wanted / got) >= SPACING_FACTOR:
            raise UserError(
                f"{names}: spacing {got:g} mm along axis {axis}, the labeled cases have about {wanted:g} mm. "
                "Fix the header (units? lost slice distance?) or remove the case."
            )
