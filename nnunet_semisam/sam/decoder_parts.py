"""segment-anything's prompt encoder and mask decoder in the one size that all published models have."""

from __future__ import annotations

from collections.abc import Callable

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer


def build_prompt_encoder(side: int, grid: int, dim: int) -> PromptEncoder:
    """Return a prompt encoder with random weights.

    Args:
        side: Side of the input in pixels.
        grid: Side of the embedding.
        dim: Channels of the embedding.
    """
    return PromptEncoder(
        embed_dim=dim, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
    )


def build_decoder(dim: int, decoder: Callable[..., MaskDecoder] = MaskDecoder) -> MaskDecoder:
    """Return a mask decoder with random weights.

    Args:
        dim: Channels of the embedding.
        decoder: The class, or a function with its arguments.
    """
    return decoder(
        transformer_dim=dim,
        transformer=TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=8, mlp_dim=2048),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
