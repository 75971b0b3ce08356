"""Combinations of box, point and mask prompts: every kind that is added says something that the others cannot."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nnunet_semisam.prompts.base import PROMPTS
from nnunet_semisam.prompts.boxes import boxes_of
from nnunet_semisam.prompts.components import find_components, to_prompts
from nnunet_semisam.prompts.masks import masks_of
from nnunet_semisam.prompts.points import points_of
from nnunet_semisam.sam.base import PromptBatch


@PROMPTS.register("box_points")
def box_points(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with box and points; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    return _combine(probs, labels, overlapping, points=True)


@PROMPTS.register("box_mask")
def box_mask(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with box and first guess; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    return _combine(probs, labels, overlapping, mask=True)


@PROMPTS.register("box_points_mask")
def box_points_mask(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with box, points and first guess; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    return _combine(probs, labels, overlapping, points=True, mask=True)


def _combine(
    probs: Tensor, labels: list[int], overlapping: bool | None, points: bool = False, mask: bool = False
) -> PromptBatch:
    """Return prompts with a box and the chosen other kinds."""
    components, shape = find_components(probs, overlapping), probs.shape[2:]
    kinds: dict[str, np.ndarray] = {"boxes": boxes_of(components, shape)}
    if points:
        kinds["points"], kinds["point_labels"] = points_of(components, len(shape))
    if mask:
        kinds["mask_logits"] = masks_of(components, shape)
    return to_prompts(components, probs, labels, **kinds)
