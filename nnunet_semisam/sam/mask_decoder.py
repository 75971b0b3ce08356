"""segment-anything's mask decoder for prompts about many images at once.

``MaskDecoder.forward`` repeats the embedding of *one* image for all prompts. Its parts are called here instead, with
an embedding per prompt. Shapes: ``M`` prompts, ``C`` channels, ``h, w`` of the embedding, ``T`` mask tokens (4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from segment_anything.modeling import MaskDecoder


def predict_masks(
    decoder: MaskDecoder, features: Tensor, position: Tensor, sparse: Tensor, dense: Tensor
) -> tuple[Tensor, Tensor]:
    """Decode every prompt against its own image embedding.

    Args:
        decoder: segment-anything's decoder.
        features: Image embedding of each prompt, ``(M, C, h, w)``.
        position: Positional encoding of the embedding's grid, ``(1, C, h, w)``.
        sparse: Embedded points and boxes, ``(M, tokens, C)``.
        dense: Embedded masks, ``(M, C, h, w)``.

    Returns:
        Mask logits ``(M, T, 4h, 4w)`` and estimated IoU ``(M, T)`` for all mask tokens: the first is the mask of an
        unambiguous prompt, the others are the candidates for an ambiguous one.

    Source:
        ``segment_anything/modeling/mask_decoder.py``, ``MaskDecoder.predict_masks``; equal to it prompt by prompt.
    """
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    return masks_of_tokens(decoder, *attend(decoder, tokens, features, position, sparse, dense))


def attend(
    decoder: MaskDecoder, tokens: Tensor, features: Tensor, position: Tensor, sparse: Tensor, dense: Tensor
) -> tuple[Tensor, Tensor]:
    """Let output tokens and prompts look at the image, and the image at them.

    Args:
        decoder: segment-anything's decoder.
        tokens: ``(K, C)``: that of the estimated IoU, those of the masks, and any others.
        features: Image embedding of each prompt, ``(M, C, h, w)``.
        position: Positional encoding of the embedding's grid, ``(1, C, h, w)``.
        sparse: Embedded points and boxes, ``(M, P, C)``.
        dense: Embedded masks, ``(M, C, h, w)``.

    Returns:
        The tokens after it, ``(M, K + P, C)``, and the upscaled embedding, ``(M, C / 8, 4h, 4w)``.
    """
    count = len(features)
    hidden, mixed = decoder.transformer(
        features + dense,
        position.expand(count, -1, -1, -1),
        torch.cat([tokens.expand(count, -1, -1), sparse], dim=1),
    )
    return hidden, decoder.output_upscaling(mixed.transpose(1, 2).reshape(features.shape))


def masks_of_tokens(decoder: MaskDecoder, hidden: Tensor, upscaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return mask logits ``(M, T, 4h, 4w)`` and estimated IoU ``(M, T)`` of what :func:`attend` returns."""
    weights = [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    logits = torch.stack(weights, dim=1) @ upscaled.flatten(2)
    return logits.unflatten(2, upscaled.shape[2:]), decoder.iou_prediction_head(hidden[:, 0])


def choose_masks(logits: Tensor, quality: Tensor, ambiguous: Tensor) -> tuple[Tensor, Tensor]:
    """Take one of the masks that the decoder offers for each prompt, as segment-anything advises.

    Args:
        logits: ``(M, T, 4h, 4w)``.
        quality: ``(M, T)``.
        ambiguous: Prompts of a single point, ``(M,)``, bool: for them the candidate of the highest estimated IoU is
            taken; for all others the first mask.

    Returns:
        ``(M, 4h, 4w)`` and ``(M,)``.
    """
    best = torch.where(ambiguous, 1 + quality[:, 1:].argmax(1), torch.zeros_like(ambiguous, dtype=torch.int64))
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, best], quality[rows, best]


def single_points(point_labels: Tensor | None, count: int, others: bool, device: torch.device) -> Tensor:
    """Return which prompts are one single point and nothing else, ``(M,)``, bool.

    Args:
        point_labels: ``(M, P)``, or ``None`` without points.
        count: ``M``.
        others: Whether there is a box or mask, too.
        device: Where the result is wanted.
    """
    if point_labels is None or others:
        return torch.zeros(count, dtype=torch.bool, device=device)
    return (point_labels >= 0).sum(1) == 1
