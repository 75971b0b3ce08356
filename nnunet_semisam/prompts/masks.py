"""Mask prompts: the specialist's prediction as a first guess, restricted to one component.

Shapes in this file: ``M`` components, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_semisam.prompts.base import PROMPTS, PromptStrategy
from nnunet_semisam.prompts.components import Component, to_prompts
from nnunet_semisam.sam.base import PromptBatch


def masks_of(components: Sequence[Component], image_shape: Sequence[int], logit_limit: float) -> np.ndarray:
    """Return the logit of each component's odds in its window, certainly outside everywhere else.

    Args:
        components: ``M`` components.
        image_shape: Size of the images along each axis, ``*S``.
        logit_limit: Largest absolute logit.

    Returns:
        ``(M, *S)``, float32, within the limit; positive on the component and nowhere else.
    """
    masks = np.full((len(components), *image_shape), -logit_limit, dtype=np.float32)
    for mask, component in zip(masks, components, strict=True):
        probs = np.clip(component.odds.astype(np.float64), 1e-6, 1 - 1e-6)
        logits = np.clip(np.log(probs / (1 - probs)), -logit_limit, logit_limit)
        another = component.member & ~component.inside
        mask[component.window] = np.where(another, -logit_limit, logits)
    return masks


@PROMPTS.register("mask")
class MaskPrompts(PromptStrategy):
    """A first guess of the mask for each component."""

    kinds = frozenset({"mask"})

    def __call__(
        self, components: Sequence[Component], image_shape: Sequence[int], labels: Sequence[int]
    ) -> PromptBatch:
        """Return masks; see :class:`PromptStrategy`."""
        masks = masks_of(components, image_shape, self.settings.logit_limit)
        return to_prompts(components, labels, mask_logits=masks)
