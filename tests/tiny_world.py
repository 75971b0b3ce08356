"""A tiny world of pseudo-labels: discs in volumes, a network that nearly sees them, and a SAM that thresholds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.sam.base import Embedding, MaskPrediction, PromptBatch, SAMBackend, check_prompts

SHAPE = (5, 40, 60)


class ThresholdSAM(SAMBackend):
    """Predicts "inside" where the image is brighter than 0.5 and within the box (anywhere, without a box)."""

    fingerprint = "threshold-1"

    def __init__(
        self, spatial_dims: int = 2, quality: float = 1.0, kinds: tuple[str, ...] = ("box", "points", "mask")
    ) -> None:
        self.spatial_dims, self.prompt_kinds = spatial_dims, frozenset(kinds)
        self.module = torch.nn.Identity()
        self.quality = quality
        self.encoded = 0
        self.largest_decode = 0

    def encode(self, images: Tensor) -> Embedding:
        self.encoded += len(images)
        return Embedding({"image": images[:, :1]}, tuple(images.shape[2:]))

    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        check_prompts(embedding, prompts, self.prompt_kinds)
        self.largest_decode = max(self.largest_decode, len(prompts))
        bright = embedding.features["image"][prompts.image, 0] > 0.5
        if prompts.boxes is not None:
            for mask, box in zip(bright, prompts.boxes, strict=True):
                inside = torch.zeros_like(mask)
                inside[tuple(slice(int(a), int(b)) for a, b in box)] = True
                mask &= inside
        logits = torch.where(bright, 10.0, -10.0)
        return MaskPrediction(logits, torch.full((len(prompts),), self.quality))


def classes(count: int = 1) -> Labels:
    return Labels.of_classes(count + 1)


def regions() -> Labels:
    """Whole (1+2) and core (2), written in this order: label 1, then label 2 on top."""
    return Labels.of_regions(2)


def disc(center: tuple[float, float], radius: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A cylinder along z that leaves the first and the last slice empty, bool (Z, Y, X)."""
    z, y, x = np.indices(shape)
    return (np.hypot(y - center[0], x - center[1]) < radius) & (z > 0) & (z < shape[0] - 1)


CASES = {"case_a": (18, 30), "case_b": (22, 40), "case_c": (15, 15)}


def load_image(case: str) -> np.ndarray:
    return disc(CASES[case], 9)[None].astype(np.float32)


def predict(image: np.ndarray) -> Tensor:
    """A network that sees the object one voxel too far to the right, with probability 0.8."""
    foreground = np.where(np.roll(image[0], 1, axis=2) > 0.5, 0.8, 0.05)
    return torch.from_numpy(np.stack([1 - foreground, foreground]).astype(np.float32))
