"""Box prompts: the tight bounding box of each component, with a small margin.

Shapes in this file: ``M`` components, ``D`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nnunet_semisam.prompts.base import PROMPTS
from nnunet_semisam.prompts.components import Component, find_components, to_prompts
from nnunet_semisam.sam.base import PromptBatch

MARGIN_SHARE = 0.05  # of the box's extent, on each side: SAM itself was trained with boxes jittered by up to a tenth


def boxes_of(components: Sequence[Component], image_shape: Sequence[int]) -> np.ndarray:
    """Return a box per component: tight, plus a margin of 5 % of its extent (at least 1 voxel) within the image.

    Args:
        components: ``M`` components.
        image_shape: Size of the images along each axis.

    Returns:
        First and one past the last voxel along each axis, ``(M, D, 2)``, float32.
    """
    boxes = np.array([c.box for c in components], dtype=np.float32).reshape(len(components), len(image_shape), 2)
    margin = np.maximum(1, np.round(MARGIN_SHARE * (boxes[..., 1] - boxes[..., 0])))
    grown = np.stack([boxes[..., 0] - margin, boxes[..., 1] + margin], axis=-1)
    return np.clip(grown, 0, np.asarray(image_shape, dtype=np.float32)[:, None])


@PROMPTS.register("box")
def box(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with a box; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    components = find_components(probs, overlapping)
    return to_prompts(components, probs, labels, boxes=boxes_of(components, probs.shape[2:]))
