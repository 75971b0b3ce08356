"""The same prompts decoded in several ways: changed, to see what stays alike; or with the mask before.

Several jittered prompts as a map of reliability: UR-SAM, https://arxiv.org/abs/2311.10529. Unlike there, the jitter is
fixed, so that rounds are deterministic.

Shapes in this file: ``M`` prompts, ``P`` points, ``D`` spatial axes, ``*S`` those axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nnunet_semisam.prompts.base import REFINEMENTS, PromptRefinement, PromptSettings
from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING, MaskPrediction, PromptBatch


@REFINEMENTS.register("none")
class NoRefinement(PromptRefinement):
    """Prompts are decoded once, as they are."""

    steps = 1

    def __call__(
        self, prompts: PromptBatch, image_shape: Sequence[int], step: int, previous: MaskPrediction | None
    ) -> PromptBatch:
        """Return ``prompts``."""
        return prompts


@REFINEMENTS.register("jitter")
class Jitter(PromptRefinement):
    """The prompts as they are, then generous, then strict; the mean counts.

    Generous: larger box, only the best point of each sort, a mask that leans inwards; strict: the opposite, and without
    the best positive point where there is another one.
    """

    steps = 3
    SIGNS = (0, 1, -1)

    def __call__(
        self, prompts: PromptBatch, image_shape: Sequence[int], step: int, previous: MaskPrediction | None
    ) -> PromptBatch:
        """Return the prompts, their generous or their strict variant; see :class:`PromptRefinement`."""
        sign = self.SIGNS[step]
        if sign == 0:
            return prompts
        changed: dict[str, Tensor] = {}
        if prompts.boxes is not None:
            changed["boxes"] = _shift_boxes(prompts.boxes, image_shape, self.settings, sign)
        if prompts.point_labels is not None:
            drop = _drop_all_but_best if sign > 0 else _drop_best_positive
            changed["point_labels"] = drop(prompts.point_labels)
        if prompts.mask_logits is not None:
            limit = self.settings.logit_limit
            changed["mask_logits"] = (prompts.mask_logits + sign * self.settings.logit_shift).clamp(-limit, limit)
        return replace(prompts, **changed)


@REFINEMENTS.register("second_pass")
class SecondPass(PromptRefinement):
    """The mask of the first pass is a prompt of the second, beside box and points; the second mask counts.

    The interactive use of SAM, whose mask prompts are its own masks of the step before: Kirillov et al., section 3,
    https://arxiv.org/abs/2304.02643. Where the first mask is empty, the guess stays what it was: the strategy's, or
    undecided.
    """

    steps, averages = 2, False
    kinds = frozenset({"mask"})

    def __call__(
        self, prompts: PromptBatch, image_shape: Sequence[int], step: int, previous: MaskPrediction | None
    ) -> PromptBatch:
        """Return the prompts, with the mask before as first guess; see :class:`PromptRefinement`."""
        if previous is None:
            return prompts
        limit = self.settings.logit_limit
        masks = torch.nan_to_num(previous.logits.detach().float(), nan=-limit).clamp(-limit, limit).cpu()
        before = prompts.mask_logits
        undecided = torch.zeros_like(masks) if before is None else before
        empty = (masks <= 0).flatten(1).all(dim=1).reshape(-1, *[1] * (masks.ndim - 1))
        return replace(prompts, mask_logits=torch.where(empty, undecided, masks))


def _shift_boxes(boxes: Tensor, image_shape: Sequence[int], settings: PromptSettings, sign: int) -> Tensor:
    """Move the sides of boxes ``(M, D, 2)`` outwards (``sign`` 1) or inwards (-1); a box never loses its middle."""
    extent = boxes[..., 1] - boxes[..., 0]
    shift = (settings.box_shift * extent).clamp(min=settings.box_shift_voxels) * sign
    middle = boxes.mean(dim=-1)
    limit = torch.as_tensor(image_shape, dtype=boxes.dtype, device=boxes.device)
    first = torch.minimum(boxes[..., 0] - shift, middle - 0.5).clamp(min=0)
    last = torch.minimum(torch.maximum(boxes[..., 1] + shift, middle + 0.5), limit)
    return torch.stack([first, last], dim=-1)


def _drop_all_but_best(point_labels: Tensor) -> Tensor:
    """Keep the first positive and the first negative point of each prompt, ``(M, P)``."""
    keep = torch.zeros_like(point_labels, dtype=torch.bool)
    for kind in (FOREGROUND, BACKGROUND):
        is_kind = point_labels == kind
        keep |= is_kind & (is_kind.cumsum(dim=1) == 1)
    return torch.where(keep, point_labels, PADDING)


def _drop_best_positive(point_labels: Tensor) -> Tensor:
    """Drop the first positive point of each prompt ``(M, P)`` that has another one."""
    positive = point_labels == FOREGROUND
    best = positive & (positive.cumsum(dim=1) == 1) & (positive.sum(dim=1, keepdim=True) > 1)
    return torch.where(best, PADDING, point_labels)
