"""Give patches the contrast of others: match their histograms.

What the few labeled cases do not show, and all unlabeled ones do, is how intensities differ from scan to scan. A
monotone map of intensities leaves anatomy and labels as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_semisam.methods.parts.transfer import to_device

QUANTILES = 65
MOST_VOXELS = 2**15  # of a channel, whose quantiles stand for all: a thousandth of the range is no contrast
STRIDE = 0.6180339887  # of the golden ratio: multiples of it visit all parts of a patch, whatever its shape


def match_some_histograms(
    images: Tensor, references: Tensor, probability: float, generator: torch.Generator | None = None
) -> Tensor:
    """Move the intensities of some images towards the histogram of a reference drawn for each.

    Args:
        images: ``(B, C, *S)``, float.
        references: Others of the same modalities, ``(R, C, *T)``.
        probability: Of each image, to be changed, in [0, 1]. How far is drawn between 0 (not at all) and 1.
        generator: Source of randomness on the CPU; ``None`` is torch's own.

    Returns:
        ``(B, C, *S)``, as the images.
    """
    changed = torch.rand(len(images), generator=generator) < probability
    partners = torch.randint(0, len(references), (len(images),), generator=generator)
    shares = torch.rand(len(images), generator=generator)
    result = images.clone()
    for b in changed.nonzero().flatten().tolist():
        matched = match_histogram(images[b], references[int(partners[b])])
        result[b] = torch.lerp(images[b], matched, float(shares[b]))
    return result


def match_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """Map the intensities of each channel so that its quantiles are those of a reference; a monotone map.

    Args:
        image: ``(C, *S)``, float.
        reference: ``(C, *T)``.

    Returns:
        ``(C, *S)``. A channel that is constant in either stays as it is, and so do voxels of exactly 0: nnU-Net sets
        what is outside the mask of an image (``use_mask_for_norm``) to 0.

    Source:
        Histogram specification, Gonzalez & Woods, Digital Image Processing, section 3.3.
    """
    result = image.clone()
    for c, (channel, wanted) in enumerate(zip(image, reference, strict=True)):
        there, here = _quantiles(wanted), _quantiles(channel)
        if here[0] < here[-1] and there[0] < there[-1]:
            result[c] = torch.where(channel == 0, channel, _interpolate(channel, here, there))
    return result


def _quantiles(values: Tensor) -> Tensor:
    """Return evenly spaced quantiles of at most :data:`MOST_VOXELS` voxels in a fixed pattern, ascending.

    Voxels of exactly 0 do not count; where there is nothing else, all quantiles are 0.
    """
    flat = values.detach().flatten().float()
    if len(flat) > MOST_VOXELS:
        steps = torch.arange(MOST_VOXELS, dtype=torch.float64)  # on the CPU: MPS has no float64
        flat = flat[to_device(((steps * STRIDE) % 1 * len(flat)).long(), flat.device)]
    flat = flat[flat != 0]
    if len(flat) == 0:
        return torch.zeros(QUANTILES, device=values.device)
    return torch.quantile(flat, torch.linspace(0, 1, QUANTILES, device=flat.device))


def _interpolate(values: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Return the values mapped by the line through ``(xs, ys)``, flat beyond its ends; ``xs`` may repeat."""
    clipped = values.float().clamp(float(xs[0]), float(xs[-1]))
    right = torch.searchsorted(xs, clipped.contiguous()).clamp(1, len(xs) - 1)
    x0, x1, y0, y1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
    share = (clipped - x0) / (x1 - x0).clamp(min=1e-12)
    return (y0 + share.clamp(0, 1) * (y1 - y0)).to(values.dtype)
