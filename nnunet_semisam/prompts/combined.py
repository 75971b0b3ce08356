"""Combinations of box, point and mask prompts: every kind that is added says something that the others cannot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_semisam.prompts.base import PROMPTS, PromptStrategy
from nnunet_semisam.prompts.boxes import boxes_of
from nnunet_semisam.prompts.components import Component, to_prompts
from nnunet_semisam.prompts.masks import masks_of
from nnunet_semisam.prompts.points import points_of
from nnunet_semisam.sam.base import PromptBatch


class CombinedPrompts(PromptStrategy):
    """The kinds that a subclass names."""

    def __call__(
        self, components: Sequence[Component], image_shape: Sequence[int], labels: Sequence[int]
    ) -> PromptBatch:
        """Return prompts of all kinds in ``kinds``; see :class:`PromptStrategy`."""
        arrays: dict[str, np.ndarray] = {}
        if "box" in self.kinds:
            arrays["boxes"] = boxes_of(components, image_shape, self.settings)
        if "points" in self.kinds:
            arrays["points"], arrays["point_labels"] = points_of(components, len(image_shape), self.settings)
        if "mask" in self.kinds:
            arrays["mask_logits"] = masks_of(components, image_shape, self.settings.logit_limit)
        return to_prompts(components, labels, **arrays)


@PROMPTS.register("box_points")
class BoxPointsPrompts(CombinedPrompts):
    """Box and points."""

    kinds = frozenset({"box", "points"})


@PROMPTS.register("box_mask")
class BoxMaskPrompts(CombinedPrompts):
    """Box and first guess."""

    kinds = frozenset({"box", "mask"})


@PROMPTS.register("points_mask")
class PointsMaskPrompts(CombinedPrompts):
    """Points and first guess, for models that know no box."""

    kinds = frozenset({"points", "mask"})


@PROMPTS.register("box_points_mask")
class BoxPointsMaskPrompts(CombinedPrompts):
    """Box, points and first guess."""

    kinds = frozenset({"box", "points", "mask"})
