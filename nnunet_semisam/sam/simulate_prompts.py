"""Prompts made from true masks: what a user, or a network that is nearly right, would give to a SAM.

Everything is vectorised over prompts and seeded by a ``torch.Generator``.
Shapes in this file: ``M`` prompts, ``H, W`` of the image, ``P`` points of a prompt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING

KINDS = ("box", "points", "box+points", "box+mask", "mask", "points+mask", "box+points+mask")


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Return uniform random numbers in ``[low, high)``."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def tight_boxes(masks: Tensor) -> Tensor:
    """Return the boxes around masks.

    Args:
        masks: ``(M, H, W)``, bool, none of them empty.

    Returns:
        First and one past the last voxel along each axis, ``(M, 2, 2)``, float.
    """
    edges = []
    for axis in (2, 1):  # project along x for the extent in y, and the other way round
        line = masks.any(axis).float()
        start = line.argmax(1)
        stop = line.shape[1] - line.flip(1).argmax(1)
        edges.append(torch.stack([start, stop], dim=1))
    return torch.stack(edges, dim=1).float()


def jittered_boxes(boxes: Tensor, shape: tuple[int, int], jitter: float, generator: Generator) -> Tensor:
    """Move the sides of boxes at random, each prompt by its own amount.

    Args:
        boxes: ``(M, 2, 2)``.
        shape: ``H, W``; boxes stay inside.
        jitter: Largest standard deviation of a side's shift, as a fraction of the box's extent.
        generator: Source of randomness.

    Returns:
        ``(M, 2, 2)``, every extent at least one voxel.
    """
    extent = boxes[:, :, 1] - boxes[:, :, 0]
    amount = (jitter * extent + 2 * min(jitter * 10, 1)) * torch.rand((len(boxes), 1), generator=generator)
    moved = boxes + amount[..., None] * torch.randn(boxes.shape, generator=generator).clamp(-2, 2)
    limit = torch.tensor(shape, dtype=torch.float32)
    start = torch.minimum(moved[:, :, 0].clamp_min(0), limit - 1)
    stop = torch.minimum(torch.maximum(moved[:, :, 1], start + 1), limit)
    return torch.stack([start, stop], dim=2)


def pick_voxels(eligible: Tensor, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw random voxels of each map, weighed by its values, with replacement.

    Args:
        eligible: ``(M, H, W)``, float, not negative.
        count: Voxels per map.
        generator: Source of randomness.

    Returns:
        Voxel indices ``(M, count, 2)``, float, and whether the map had any voxel, ``(M,)``, bool.
    """
    shares = eligible.flatten(1).double().cumsum(1)
    total = shares[:, -1:]
    wanted = torch.rand((len(eligible), count), generator=generator, dtype=torch.float64) * total
    best = torch.searchsorted(shares, wanted, right=True).clamp_max(shares.shape[1] - 1)
    index = torch.stack([best // eligible.shape[2], best % eligible.shape[2]], dim=2)
    return index.float(), total[:, 0] > 0


def interior(masks: Tensor, depth: float) -> Tensor:
    """Return weights that prefer the inside of masks.

    Args:
        masks: ``(M, H, W)``, bool.
        depth: Exponent: 0 is uniform over the mask, large keeps to the middle.

    Returns:
        ``(M, H, W)``, in [0, 1], 0 outside the mask.
    """
    values = masks.float()[:, None]
    support = torch.zeros_like(values)
    for shrink, window in ((2, 3), (4, 3), (4, 7)):  # large windows are dear, so they slide over smaller maps
        small = F.avg_pool2d(F.avg_pool2d(values, shrink, ceil_mode=True), window, 1, window // 2)
        support += F.interpolate(small, scale_factor=float(shrink))[:, :, : values.shape[2], : values.shape[3]]
    support = support * values
    return ((support / support.amax((2, 3), keepdim=True).clamp_min(1e-6)) ** depth * values)[:, 0]


def random_points(
    masks: Tensor,
    boxes: Tensor,
    count: tuple[int, int],
    generator: Generator,
    depth: float = 4.0,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw points inside masks and, as background, near them: in holes, too.

    Args:
        masks: ``(M, H, W)``, bool.
        boxes: Boxes around the masks, ``(M, 2, 2)``.
        count: Number of foreground and of background points; the first is always a foreground point.
        generator: Source of randomness.
        depth: See :func:`interior`.
        known: Voxels whose label is known, ``(M, H, W)``, bool: no background point is set elsewhere; ``None``: all.

    Returns:
        Voxel indices ``(M, P, 2)`` and labels ``(M, P)``; background points that fit nowhere are padding.
    """
    inside, found_inside = pick_voxels(interior(masks, depth), count[0], generator)
    beside = background_weights(masks, boxes)
    near, found_near = pick_voxels(beside if known is None else beside * known, count[1], generator)
    foreground = torch.where(found_inside, FOREGROUND, PADDING)[:, None].expand(-1, count[0])
    background = torch.where(found_near, BACKGROUND, PADDING)[:, None].expand(-1, count[1])
    return torch.cat([inside, near], dim=1), torch.cat([foreground, background], dim=1)


def background_weights(masks: Tensor, boxes: Tensor) -> Tensor:
    """Return where background points help: outside the mask, in the box grown by a quarter, ``(M, H, W)``."""
    margin = (boxes[:, :, 1] - boxes[:, :, 0]) * 0.25 + 2
    rows, columns = (torch.arange(size)[None] for size in masks.shape[1:])
    low, high = boxes[:, :, 0] - margin, boxes[:, :, 1] + margin
    in_rows = (rows >= low[:, :1]) & (rows < high[:, :1])
    in_columns = (columns >= low[:, 1:]) & (columns < high[:, 1:])
    return (~masks & in_rows[:, :, None] & in_columns[:, None, :]).float()


def drop_points(labels: Tensor, keep: float, generator: Generator) -> Tensor:
    """Turn points into padding at random, never the first; ``keep`` is the probability to stay."""
    gone = torch.rand(labels.shape, generator=generator) >= keep
    gone[:, 0] = False
    return torch.where(gone, torch.full_like(labels, PADDING), labels)


def degraded_logits(masks: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Make first guesses of masks as a half-trained network would: warped, smeared, too large or small, with errors.

    Args:
        masks: True masks, ``(M, H, W)``, bool or coverage in [0, 1].
        severity: How wrong, ``(M,)``, in [0, 1]; 0 is nearly right.
        generator: Source of randomness.

    Returns:
        Logits ``(M, H, W)``, float32, of random steepness.
    """
    count, height, width = masks.shape
    scale = masks.float().sum((1, 2)).clamp_min(4).sqrt()[:, None, None]  # a length that belongs to the object
    hard = severity[:, None, None]
    values = _warp(masks.float(), 0.25 * hard * scale, generator)
    noise = F.interpolate(_normal((count, 1, 14, 14), generator), (height, width), mode="bicubic")[:, 0]
    blurred = F.avg_pool2d(values[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    mix = torch.rand((count, 1, 1), generator=generator)
    values = values + mix * (blurred - values)
    threshold = 0.5 + hard * uniform((count, 1, 1), -0.35, 0.35, generator)
    values = values - threshold + 0.25 * hard * noise
    values = _spoil(values, scale, 0.5 * severity, generator)
    return values * torch.exp(uniform((count, 1, 1), 1.0, 3.2, generator))


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _warp(values: Tensor, amplitude: Tensor, generator: Generator) -> Tensor:
    """Move each map by a smooth displacement of ``amplitude (M, 1, 1)`` voxels."""
    count, height, width = values.shape
    shift = F.interpolate(_normal((count, 2, 9, 9), generator), (height, width), mode="bicubic")
    rows = (torch.arange(height)[:, None] + 0.5 + amplitude * shift[:, 0]) * (2 / height) - 1
    columns = (torch.arange(width)[None] + 0.5 + amplitude * shift[:, 1]) * (2 / width) - 1
    return F.grid_sample(values[:, None], torch.stack([columns, rows], dim=-1), align_corners=False)[:, 0]


def _spoil(values: Tensor, scale: Tensor, probability: Tensor, generator: Generator) -> Tensor:
    """Add a spurious component, or cut a part out, at random; values are above 0 inside."""
    count, height, width = values.shape
    for sign in (1.0, -1.0):
        rows = torch.arange(height)[None, :, None] - uniform((count, 1, 1), 0, height, generator)
        columns = torch.arange(width)[None, None] - uniform((count, 1, 1), 0, width, generator)
        if sign < 0:  # cuts are made where something is
            middle, _ = pick_voxels((values > 0).float(), 1, generator)
            rows = torch.arange(height)[None, :, None] - middle[:, :, :1]
            columns = torch.arange(width)[None, None] - middle[:, :, 1:]
        radius = scale * uniform((count, 1, 1), 0.1, 0.45, generator)
        spurious = (0.5 - torch.sqrt(rows**2 + columns**2) / radius.clamp_min(1) / 2).clamp(-0.5, 0.5)
        there = (torch.rand(count, generator=generator) < probability)[:, None, None]
        spoiled = torch.maximum(values, spurious) if sign > 0 else torch.minimum(values, -spurious)
        values = torch.where(there, spoiled, values)
    return values
