"""A SAM that segments classes, with and without prompts: one encoder, and several mask decoders that are trained.

Shapes in this file: ``N`` images, ``C`` channels, ``F`` classes, ``H, W`` of the images, ``c, h, w`` of the embedding.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from nnunet_semisam.sam.base import FOREGROUND, PADDING, Embedding
from nnunet_semisam.sam.frame import Frame
from nnunet_semisam.sam.mask_decoder import predict_masks

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

TOKEN_SCALE = 0.02  # of new tokens at the start: small against the embedded prompts


class SegmentAnything(Protocol):
    """What is needed of :class:`~nnunet_semisam.sam.segment_anything.SegmentAnythingBackend`."""

    sam: Sam
    device: torch.device

    def encode(self, images: Tensor) -> Embedding:
        """Encode images."""

    def frame(self, shape: tuple[int, int]) -> Frame:
        """Return how images of a shape lie in the model's input."""

    def autocast(self) -> AbstractContextManager:
        """Return the precision in which encoder and decoder run."""


class ClassDecoders(nn.Module):
    """Asks a SAM for classes: each class is a learned token among the prompt's tokens.

    Without points the token alone says what is wanted, so that a trained model needs no prompt. The decoders begin as
    copies of the SAM's, with tokens of their own.

    Args:
        backend: The SAM; its modules are trained in place.
        classes: ``F``.
        count: How many decoders.
        train_encoder: Whether the image encoder learns, too.

    Source:
        CPC-SAM, https://arxiv.org/abs/2407.05416: one encoder, one prompt encoder, two decoders, prompts by class.
        There an output token per class; here a prompt token, so that the weights of any SAM fit any number of classes.
    """

    def __init__(self, backend: SegmentAnything, classes: int, count: int, train_encoder: bool) -> None:
        super().__init__()
        self.backend = backend
        self.image_encoder, self.prompt_encoder = backend.sam.image_encoder, backend.sam.prompt_encoder
        self.decoders = nn.ModuleList(copy.deepcopy(backend.sam.mask_decoder) for _ in range(count))
        width = self.prompt_encoder.embed_dim
        self.tokens = nn.Parameter(TOKEN_SCALE * torch.randn(count, classes, width, device=backend.device))
        for part in (self.prompt_encoder, self.decoders):
            part.requires_grad_(True)  # those of an adapted SAM come frozen
        self.image_encoder.requires_grad_(train_encoder)

    def encode(self, images: Tensor) -> Tensor:
        """Return the embedding ``(N, c, h, w)`` of images ``(N, C, H, W)``."""
        (features,) = self.backend.encode(images).features.values()
        return features

    def decode(
        self, decoder: int, features: Tensor, shape: tuple[int, int], points: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return the logits of all classes, ``(N, F, H, W)``, float32.

        Args:
            decoder: Which decoder, from 0.
            features: From :meth:`encode`.
            shape: ``H, W``.
            points: A voxel of each class, ``(N, F, 2)``, float, and where there is one, ``(N, F)``, bool; ``None``:
                no prompts.
        """
        classes = self.tokens.shape[1]
        frame = self.backend.frame(shape)
        asked = None
        if points is not None:
            places, there = points
            labels = torch.where(there, FOREGROUND, PADDING)
            asked = (frame.points_to_frame(places.flatten(0, 1)[:, None]), labels.flatten()[:, None])
        sparse, dense = self.prompt_encoder(points=asked, boxes=None, masks=None)
        token = self.tokens[decoder].repeat(len(features), 1)[:, None]
        sparse = torch.cat([token, sparse.expand(len(token), -1, -1)], dim=1)
        of_classes = features.repeat_interleave(classes, dim=0)
        position = self.prompt_encoder.get_dense_pe()
        with self.backend.autocast():
            logits, _ = predict_masks(
                self.decoders[decoder], of_classes, position, sparse, dense.expand(len(token), -1, -1, -1)
            )
        return frame.logits_to_image(logits[:, 0].float()).unflatten(0, (len(features), classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of all decoders' logits without prompts, ``(N, F, H, W)``."""
        features = self.encode(images)
        size = (images.shape[2], images.shape[3])
        return torch.stack([self.decode(d, features, size) for d in range(len(self.decoders))]).mean(dim=0)
