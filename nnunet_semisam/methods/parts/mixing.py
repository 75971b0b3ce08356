"""Mix strong views, and with them everything that belongs to their voxels."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cutmix_mask(
    shape: torch.Size | tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Draw one box for each image of a batch.

    Args:
        shape: ``(B, C, *S)`` of the images.
        device: Where the mask is wanted.
        generator: Source of randomness on the CPU; ``None`` is torch's own.

    Returns:
        ``(B, 1, *S)``, bool, true where the other image is pasted. The box covers 0.1 to 0.5 of the image (up to
        rounding to voxels) and is up to about three times as long, relative to the image, along one axis as along
        another.

    Source:
        CutMix, https://arxiv.org/abs/1905.04899, as used on segmentation by UniMatch, https://arxiv.org/abs/2208.09910
        (boxes of 0.02 to 0.4 of the area there; larger here, since organs fill much of a medical patch).
    """
    batch, spatial = shape[0], shape[2:]
    mask = torch.zeros((batch, 1, *spatial), dtype=torch.bool)
    for b in range(batch):
        share = 0.1 + 0.4 * torch.rand(1, generator=generator).item()
        scale = share ** (1 / len(spatial))
        stretches = _stretches(len(spatial), generator)
        sides = [max(1, round(s * scale * stretch)) for s, stretch in zip(spatial, stretches, strict=True)]
        box = [slice(None), *(_place(side, s, generator) for side, s in zip(sides, spatial, strict=True))]
        mask[b][tuple(box)] = True
    return mask.to(device)


def _stretches(count: int, generator: torch.Generator | None) -> list[float]:
    """Draw one factor for each axis; their product is 1, so that they change the shape of a box and not its size."""
    logs = [0.3 * torch.randn(1, generator=generator).clamp(-2, 2).item() for _ in range(count)]
    return [math.exp(log - sum(logs) / count) for log in logs]


def _place(side: int, size: int, generator: torch.Generator | None) -> slice:
    side = min(side, size)
    start = int(torch.randint(0, size - side + 1, (1,), generator=generator))
    return slice(start, start + side)


def mix(values: Tensor, mask: Tensor) -> Tensor:
    """Paste into each element of the batch the box of its neighbour: ``values[b - 1]`` where ``mask[b]``."""
    return torch.where(mask, values.roll(1, dims=0), values)
