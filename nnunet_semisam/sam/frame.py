"""From nnU-Net's slices to a SAM's input frame, and back.

A SAM's frame is a square; how images fit into it says :class:`~nnunet_semisam.sam.preprocessing.Preprocessing`.
Shapes in this file: ``N`` images, ``C`` channels, ``H, W`` of the given image, ``S`` side of the frame in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.sam.preprocessing import Preprocessing


@dataclass(frozen=True)
class Frame:
    """Geometry between an image and the SAM's square input.

    Attributes:
        image_shape: ``H, W``.
        side: ``S``.
        keep_aspect: Whether the longest side fits and the rest is padded; else both sides are stretched.
    """

    image_shape: tuple[int, int]
    side: int
    keep_aspect: bool = True

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the image inside the frame; rounds as segment-anything's ``ResizeLongestSide``."""
        if not self.keep_aspect:
            return self.side, self.side
        scale = self.side / max(self.image_shape)
        height, width = self.image_shape
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def scale(self) -> Tensor:
        """Return frame pixels per voxel along each axis, ``(2,)``."""
        return torch.tensor([r / s for r, s in zip(self.resized, self.image_shape, strict=True)], dtype=torch.float32)

    def points_to_frame(self, points: Tensor) -> Tensor:
        """Convert voxel indices ``(..., 2)`` to SAM's ``x, y``.

        The centre of voxel ``i`` lies at ``i + 0.5`` on the continuous axis. SAM's prompt encoder adds its own half
        pixel to what it is given, so that is taken off again.
        """
        return ((points + 0.5) * self.scale().to(points) - 0.5).flip(-1)

    def boxes_to_frame(self, boxes: Tensor) -> Tensor:
        """Convert ``(M, 2, 2)``, first and one past the last voxel along each axis, to SAM's ``x0 y0 x1 y1``.

        Edges are positions on the continuous axis already (a voxel spans ``[i, i + 1)``); the half pixel that SAM's
        prompt encoder adds is taken off.
        """
        corners = boxes.transpose(1, 2) * self.scale().to(boxes) - 0.5  # (M, first or last, axis)
        return corners.flip(-1).flatten(1)

    def masks_to_frame(self, logits: Tensor, low_side: int) -> Tensor:
        """Convert mask logits ``(M, H, W)`` to SAM's low-resolution mask frame ``(M, 1, low_side, low_side)``.

        The padding is as surely outside as the surest voxel of the guess that is outside.
        """
        height, width = (max(1, round(r * low_side / self.side)) for r in self.resized)
        inside = F.interpolate(
            logits[:, None].float(), (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        floor = inside.amin((1, 2, 3), keepdim=True).clamp_max(0)
        frame = floor.expand(-1, 1, low_side, low_side).clone()
        frame[:, :, :height, :width] = inside
        return frame

    def logits_to_image(self, low_logits: Tensor) -> Tensor:
        """Convert low-resolution logits ``(M, low, low)`` to the image's grid, ``(M, H, W)``, as segment-anything."""
        full = F.interpolate(low_logits[:, None], (self.side, self.side), mode="bilinear", align_corners=False)
        height, width = self.resized
        inside = full[:, :, :height, :width]
        return F.interpolate(inside, self.image_shape, mode="bilinear", align_corners=False)[:, 0]


def stretch_percentiles(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Stretch each image ``(N, H, W)`` between robust percentiles to [0, ``top``]; a constant image becomes 0.

    Where hardly anything differs from a constant background, the percentiles are one value: then the smallest and the
    largest value take their place, since a small object would vanish else.
    """
    return _stretch(images, *preprocessing.percentiles, preprocessing.top)


def stretch_all(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Stretch each image ``(N, H, W)`` between its smallest and largest value to [0, ``top``]."""
    return _stretch(images, 0.0, 1.0, preprocessing.top)


# Each rule maps images (N, H, W) of any unit to float32 in [0, top], image by image.
INTENSITY_RULES: dict[str, Callable[[Tensor, Preprocessing], Tensor]] = {
    "percentiles": stretch_percentiles,
    "min_max": stretch_all,
}


def _stretch(images: Tensor, low_share: float, high_share: float, top: float) -> Tensor:
    flat = images.float().flatten(1)
    count = flat.shape[1]
    low, high = (
        flat.kthvalue(min(count, 1 + round(share * (count - 1))), dim=1).values for share in (low_share, high_share)
    )
    flat_inside = high <= low
    low, high = torch.where(flat_inside, flat.amin(1), low), torch.where(flat_inside, flat.amax(1), high)
    span = (high - low)[:, None, None]
    scaled = (images.float() - low[:, None, None]) / torch.where(span > 0, span, torch.ones_like(span))
    return torch.where(span > 0, scaled.clamp(0, 1) * top, torch.zeros_like(scaled))


def to_frame(images: Tensor, frame: Frame, preprocessing: Preprocessing) -> Tensor:
    """Rescale and resize grey images, not yet normalised and padded.

    Args:
        images: ``(N, H, W)``, float, any unit.
        frame: Where they go.
        preprocessing: How intensities are rescaled.

    Returns:
        ``(N, 1, h, w)`` with ``h, w = frame.resized``, float32, in [0, ``preprocessing.top``].
    """
    scaled = INTENSITY_RULES[preprocessing.intensity](images, preprocessing)[:, None]
    if frame.resized == frame.image_shape:
        return scaled
    resized = F.interpolate(scaled, frame.resized, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0, preprocessing.top)


def to_input(images: Tensor, frame: Frame, preprocessing: Preprocessing) -> Tensor:
    """Return the input of a SAM: rescaled, resized, normalised, padded with 0.

    Args:
        images: ``(N, H, W)``, float, any unit.
        frame: Where they go.
        preprocessing: What the model expects.

    Returns:
        ``(N, C, S, S)``, float32; ``C`` is the length of ``preprocessing.mean``.
    """
    grey = to_frame(images, frame, preprocessing)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(-1, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    normalised = (grey - mean) / std
    return F.pad(normalised, (0, frame.side - normalised.shape[3], 0, frame.side - normalised.shape[2]))
