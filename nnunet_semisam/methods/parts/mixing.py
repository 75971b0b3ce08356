"""Mix strong views, and with them everything that belongs to their voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.parts.transfer import to_device
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("cutmix", used=lambda settings: settings.run.method != "supervised")
@dataclass(frozen=True, kw_only=True)
class CutMixSettings(SettingsBlock):
    """The boxes that CutMix and copy-paste draw."""

    smallest: float = setting(
        0.1,
        "Smallest share of the image that a box covers.",
        above=0,
        high=1,
        source="boxes of 0.02 to 0.4 in UniMatch, https://arxiv.org/abs/2208.09910; larger here: organs fill a patch",
    )
    largest: float = setting(0.5, "Largest share of the image that a box covers.", above=0, high=1)
    stretch_limit: float = setting(2.0, "Most that a side is stretched, in units of `stretch`.", low=0, high=10)
    stretch: float = setting(
        0.3,
        "Standard deviation of the logarithm of a side relative to the others; 0 draws boxes like the image.",
        low=0,
        high=3,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smallest > self.largest:
            raise UserError(
                f"The setting smallest must be at most largest, {self.largest:g}, got {self.smallest:g}: boxes are "
                "drawn between the two."
            )


def cutmix_mask(
    shape: torch.Size | tuple[int, ...],
    device: torch.device,
    settings: CutMixSettings | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw one box for each image of a batch.

    Args:
        shape: ``(B, C, *S)`` of the images.
        device: Where the mask is wanted.
        settings: Size and shape of the boxes; ``None`` takes the defaults.
        generator: Source of randomness on the CPU; ``None`` is torch's own.

    Returns:
        ``(B, 1, *S)``, bool, true where the other image is pasted. The box covers ``smallest`` to ``largest``
        of the image (up to rounding to voxels); with the default ``stretch`` it is up to about three times as long,
        relative to the image, along one axis as along another.

    Source:
        CutMix, https://arxiv.org/abs/1905.04899, as used on segmentation by UniMatch, https://arxiv.org/abs/2208.09910.
    """
    settings = settings or CutMixSettings()
    batch, spatial = shape[0], shape[2:]
    mask = torch.zeros((batch, 1, *spatial), dtype=torch.bool, device=device)
    for b in range(batch):
        share = settings.smallest + (settings.largest - settings.smallest) * torch.rand(1, generator=generator).item()
        scale = share ** (1 / len(spatial))
        stretches = _stretches(len(spatial), settings, generator)
        sides = [max(1, round(s * scale * stretch)) for s, stretch in zip(spatial, stretches, strict=True)]
        box = [slice(None), *(_place(side, s, generator) for side, s in zip(sides, spatial, strict=True))]
        mask[b][tuple(box)] = True
    return mask


def labeled_mix_mask(
    shape: torch.Size | tuple[int, ...],
    device: torch.device,
    probability: float,
    settings: CutMixSettings | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw where labeled patches are pasted: nothing, a box, or all but a box, for each image of a batch.

    Args:
        shape: ``(B, C, *S)`` of the images.
        device: Where the mask is wanted.
        probability: Of anything being pasted into an image, in [0, 1]; a box and its complement are equally likely.
        settings: Size and shape of the boxes; ``None`` takes the defaults.
        generator: Source of randomness on the CPU; ``None`` is torch's own.

    Returns:
        ``(B, 1, *S)``, bool, true where the labeled patch is pasted.
    """
    mask = cutmix_mask(shape, device, settings, generator)
    draws = torch.rand((shape[0], *[1] * (len(shape) - 1)), generator=generator)
    pasted, inverted = to_device(draws < probability, device), to_device(draws < probability / 2, device)
    return (mask ^ inverted) & pasted


def _stretches(count: int, settings: CutMixSettings, generator: torch.Generator | None) -> list[float]:
    """Draw one factor for each axis; their product is 1, so that they change the shape of a box and not its size."""
    limit = settings.stretch_limit
    draws = [torch.randn(1, generator=generator).clamp(-limit, limit).item() for _ in range(count)]
    logs = [settings.stretch * draw for draw in draws]
    return [math.exp(log - sum(logs) / count) for log in logs]


def _place(side: int, size: int, generator: torch.Generator | None) -> slice:
    side = min(side, size)
    start = int(torch.randint(0, size - side + 1, (1,), generator=generator))
    return slice(start, start + side)


def box_mask(shape: torch.Size | tuple[int, ...], device: torch.device, side: float) -> Tensor:
    """Draw one box of fixed size at a random place for each image of a batch.

    Args:
        shape: ``(B, C, *S)`` of the images.
        device: Where the mask is wanted.
        side: Side of the box as a share of the image's, along every axis, in (0, 1).

    Returns:
        ``(B, 1, *S)``, bool, true inside the box.
    """
    batch, spatial = shape[0], shape[2:]
    mask = torch.zeros((batch, 1, *spatial), dtype=torch.bool, device=device)
    for b in range(batch):
        places = [_place(max(1, round(side * size)), size, None) for size in spatial]
        mask[b][(slice(None), *places)] = True
    return mask


def mix(values: Tensor, mask: Tensor) -> Tensor:
    """Paste into each element of the batch the box of its neighbour: ``values[b - 1]`` where ``mask[b]``."""
    return torch.where(mask, values.roll(1, dims=0), values)


def interpolation_shares(count: int, ndim: int, alpha: float, device: torch.device) -> Tensor:
    """Draw the share of each image in a mixture of two from Beta(alpha, alpha); shape ``(count, 1, ...)`` of ``ndim``.

    Source:
        Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412.
    """
    shares = torch.distributions.Beta(alpha, alpha).sample((count,)).clamp(0, 1)
    return to_device(shares.view(-1, *[1] * (ndim - 1)), device)


def interpolate(values: Tensor, share: Tensor) -> Tensor:
    """Return the mean of each element of the batch, weighed by ``share``, and of its neighbour ``values[b - 1]``."""
    return share * values + (1 - share) * values.roll(1, dims=0)
