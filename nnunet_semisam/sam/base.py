"""What every Segment Anything model must provide, and the types that travel to and from it.

Everything here is in array axis order and in voxels of the image given to :meth:`SAMBackend.encode`; a backend
converts to its own convention (SAM: x before y, pixels of a resized frame) at its own border.

Shapes in this file: ``N`` images, ``M`` prompts, ``P`` points of a prompt, ``D`` spatial axes of the backend (2 or 3),
``*S`` those axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nnunet_semisam.registry import Registry

FOREGROUND, BACKGROUND, PADDING = 1, 0, -1


@dataclass(frozen=True)
class PromptBatch:
    """Questions to a SAM, as arrays over ``M`` prompts. Kinds that are ``None`` are not asked with.

    Attributes:
        image: Which of the encoded images each prompt is about, ``(M,)``, int64.
        label: The nnU-Net label (or the index of the region) that each prompt asks for, ``(M,)``, int64.
        boxes: First and one past the last voxel along each axis, ``(M, D, 2)``, float.
        points: Voxel indices (centres of voxels), ``(M, P, D)``, float.
        point_labels: ``(M, P)``, int64: 1 foreground, 0 background, -1 padding (no point).
        mask_logits: A first guess of the mask, ``(M, *S)``, float logits (0 is undecided).
    """

    image: Tensor
    label: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    mask_logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def select(self, index: Tensor | slice) -> PromptBatch:
        """Return the prompts at ``index``, all kinds alike."""
        return PromptBatch(**{name: None if v is None else v[index] for name, v in vars(self).items()})

    def to(self, device: torch.device) -> PromptBatch:
        """Return the prompts on ``device``."""
        return replace(self, **{name: v.to(device) for name, v in vars(self).items() if v is not None})


@dataclass(frozen=True)
class Embedding:
    """Encoded images.

    Attributes:
        features: Feature maps by name, each ``(N, channels, *reduced)``.
        image_shape: ``*S`` of the images as they were given to ``encode``.
    """

    features: dict[str, Tensor]
    image_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))


@dataclass(frozen=True)
class MaskPrediction:
    """Answers of a SAM.

    Attributes:
        logits: ``(M, *S)``, float32, on the grid of the given images; positive is inside.
        quality: The model's own estimate of the mask's IoU, ``(M,)``, clipped to [0, 1].
    """

    logits: Tensor
    quality: Tensor


class SAMBackend(ABC):
    """A promptable segmentation model, frozen.

    Attributes:
        spatial_dims: 2: sees slices; 3: sees volumes.
        prompt_kinds: Which of ``box``, ``points`` and ``mask`` the model understands.
        fingerprint: Hex digest that changes whenever weights or preprocessing change; names the embedding cache.
    """

    spatial_dims: ClassVar[int] = 2
    prompt_kinds: ClassVar[frozenset[str]] = frozenset({"box", "points", "mask"})
    fingerprint: str

    @abstractmethod
    def encode(self, images: Tensor) -> Embedding:
        """Encode images once, for many prompts.

        Args:
            images: ``(N, C, *S)``, float, intensities as nnU-Net normalised them; the backend rescales.
        """

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: PromptBatch) -> MaskPrediction:
        """Answer all prompts at once.

        Args:
            embedding: What :meth:`encode` returned (possibly stored and read back).
            prompts: At least one prompt; ``image`` indexes ``embedding``.

        Raises:
            ValueError: If a prompt kind is not understood, or no kind is given.
        """


BACKENDS: Registry[SAMBackend] = Registry("SAM backend")
