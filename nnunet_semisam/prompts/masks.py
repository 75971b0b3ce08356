"""Mask prompts: the network's own opinion as a first guess, restricted to one component.

Shapes in this file: ``M`` components, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nnunet_semisam.prompts.base import PROMPTS
from nnunet_semisam.prompts.components import Component, find_components, to_prompts
from nnunet_semisam.sam.base import PromptBatch

LOGIT_LIMIT = 8.0  # probability 0.9997: SAM's mask input are logits of this order, and infinity must not reach it


def masks_of(components: Sequence[Component], image_shape: Sequence[int]) -> np.ndarray:
    """Return the logit of each component's odds in its window, certainly outside everywhere else.

    Args:
        components: ``M`` components.
        image_shape: Size of the images along each axis, ``*S``.

    Returns:
        ``(M, *S)``, float32, in [-8, 8]; positive on the component and nowhere else.
    """
    masks = np.full((len(components), *image_shape), -LOGIT_LIMIT, dtype=np.float32)
    for mask, component in zip(masks, components, strict=True):
        probs = np.clip(component.odds.astype(np.float64), 1e-6, 1 - 1e-6)
        logits = np.clip(np.log(probs / (1 - probs)), -LOGIT_LIMIT, LOGIT_LIMIT)
        another = component.member & ~component.inside
        mask[component.window] = np.where(another, -LOGIT_LIMIT, logits)
    return masks


@PROMPTS.register("mask")
def mask(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with a first guess; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    components = find_components(probs, overlapping)
    return to_prompts(components, probs, labels, mask_logits=masks_of(components, probs.shape[2:]))
