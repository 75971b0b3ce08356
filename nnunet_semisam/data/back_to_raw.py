"""Back from nnU-Net's preprocessed arrays to the voxels of the raw image.

What :func:`nnunetv2.inference.export_prediction.convert_predicted_logits_to_segmentation_with_correct_shape` does with
logits is done here with maps: resampling, undoing the crop, undoing the transposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


def back_to_raw(
    values: np.ndarray,
    properties: Mapping[str, Any],
    plans: PlansManager,
    configuration: ConfigurationManager,
    is_label: bool = False,
) -> np.ndarray:
    """Return a map of the preprocessed image on the voxels of the raw one; 0 where it was cropped away.

    Args:
        values: The map, ``(Z, Y, X)`` in the axes of the preprocessed array.
        properties: What nnU-Net's reader and preprocessor said about the image.
        plans: nnU-Net's plans.
        configuration: The configuration that it was preprocessed for.
        is_label: Whether it holds labels, which have no values in between.

    Returns:
        ``(Z, Y, X)`` of nnU-Net's reader, int16 for labels and else float32.
    """
    target = [properties["spacing"][axis] for axis in plans.transpose_forward]
    shape = properties["shape_after_cropping_and_before_resampling"]
    spacing = list(configuration.spacing)
    current = spacing if len(spacing) == len(shape) else [target[0], *spacing]
    if is_label:
        resampled = configuration.resampling_fn_seg(values[None].astype(np.int16), shape, current, target)
    else:
        resampled = configuration.resampling_fn_probabilities(values[None].astype(np.float32), shape, current, target)
    resampled = np.asarray(resampled)[0]
    whole = np.zeros(properties["shape_before_cropping"], dtype=np.int16 if is_label else np.float32)
    whole[tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])] = resampled
    return whole.transpose(plans.transpose_backward)
