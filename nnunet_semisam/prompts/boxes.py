"""Box prompts: the tight bounding box of each component, with a small margin.

Shapes in this file: ``M`` components, ``D`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_semisam.prompts.base import PROMPTS, PromptSettings, PromptStrategy
from nnunet_semisam.prompts.components import Component, to_prompts
from nnunet_semisam.sam.base import PromptBatch


def boxes_of(components: Sequence[Component], image_shape: Sequence[int], settings: PromptSettings) -> np.ndarray:
    """Return a box per component: tight, plus a margin within the image.

    Args:
        components: ``M`` components.
        image_shape: Size of the images along each axis.
        settings: The block ``prompts``: margin by default 5 % of the extent, at least 1 voxel.

    Returns:
        First and one past the last voxel along each axis, ``(M, D, 2)``, float32.
    """
    boxes = np.array([c.box for c in components], dtype=np.float32).reshape(len(components), len(image_shape), 2)
    margin = np.maximum(settings.box_margin_voxels, np.round(settings.box_margin * (boxes[..., 1] - boxes[..., 0])))
    grown = np.stack([boxes[..., 0] - margin, boxes[..., 1] + margin], axis=-1)
    return np.clip(grown, 0, np.asarray(image_shape, dtype=np.float32)[:, None])


@PROMPTS.register("box")
class BoxPrompts(PromptStrategy):
    """A box for each component."""

    kinds = frozenset({"box"})

    def __call__(
        self, components: Sequence[Component], image_shape: Sequence[int], labels: Sequence[int]
    ) -> PromptBatch:
        """Return boxes; see :class:`PromptStrategy`."""
        return to_prompts(components, labels, boxes=boxes_of(components, image_shape, self.settings))
