"""The same question asked in several ways: what a SAM answers alike each time can be believed more.

Several jittered prompts as a free map of reliability: UR-SAM, https://arxiv.org/abs/2311.10529. Unlike there, the
jitter is fixed, so that the stage is deterministic.

Shapes in this file: ``M`` prompts, ``P`` points, ``D`` spatial axes, ``*S`` those axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nnunet_semisam.prompts.masks import LOGIT_LIMIT
from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING, PromptBatch

BOX_SHIFT = 0.05  # share of the box's extent by which each side moves (at least one voxel)
LOGIT_SHIFT = 1.0  # what was probability 0.5 becomes 0.73 or 0.27


def variants(prompts: PromptBatch, image_shape: Sequence[int]) -> list[PromptBatch]:
    """Return the prompts as they are, a generous and a strict reading of them.

    Generous: larger box, only the best point of each sort, a mask that leans inwards; strict: the opposite, and without
    the best positive point where there is another one.

    Args:
        prompts: ``M`` prompts of any kinds.
        image_shape: Size of the images along each axis, ``*S``.

    Returns:
        Three batches of ``M`` prompts of the same kinds.
    """
    return [prompts, _shifted(prompts, image_shape, 1), _shifted(prompts, image_shape, -1)]


def _shifted(prompts: PromptBatch, image_shape: Sequence[int], sign: int) -> PromptBatch:
    """Return the generous (``sign`` 1) or the strict (-1) reading."""
    changed: dict[str, Tensor] = {}
    if prompts.boxes is not None:
        changed["boxes"] = _shift_boxes(prompts.boxes, image_shape, sign)
    if prompts.point_labels is not None:
        drop = _drop_all_but_best if sign > 0 else _drop_best_positive
        changed["point_labels"] = drop(prompts.point_labels)
    if prompts.mask_logits is not None:
        changed["mask_logits"] = (prompts.mask_logits + sign * LOGIT_SHIFT).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return replace(prompts, **changed)


def _shift_boxes(boxes: Tensor, image_shape: Sequence[int], sign: int) -> Tensor:
    """Move the sides of boxes ``(M, D, 2)`` outwards (1) or inwards (-1); a box never loses its middle."""
    shift = (BOX_SHIFT * (boxes[..., 1] - boxes[..., 0])).clamp(min=1.0) * sign
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
