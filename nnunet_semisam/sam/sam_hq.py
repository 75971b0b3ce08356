"""SAM-HQ: segment-anything with one more output token, which draws fine borders from an early layer of the encoder.

Shapes in this file: ``N`` images, ``S`` side of the input in pixels, ``M`` prompts, ``C`` channels of the embedding,
``h, w`` of the embedding, ``T`` mask tokens (4).

Source: Ke et al., Segment Anything in High Quality, https://arxiv.org/abs/2306.01567; structure and names of the
weights as in https://github.com/SysCV/sam-hq.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, Sam
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from nnunet_semisam.sam import BackendOptions
from nnunet_semisam.sam.decoder_parts import build_decoder, build_prompt_encoder
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.mask_decoder import attend, masks_of_tokens
from nnunet_semisam.sam.segment_anything import FEATURES, SegmentAnythingBackend, load_sam

DETAILS = "details"
PATCH, WINDOW = 16, 14


class HQEncoder(ImageEncoderViT):
    """segment-anything's image encoder, which also gives what its first block with a view of the whole image says."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding ``(N, C, h, w)`` and the early tokens ``(N, h, w, width)`` of ``(N, 3, S, S)``."""
        x, early = self.patch_embed(x) + self.pos_embed, None
        for block in self.blocks:
            x = block(x)
            if early is None and block.window_size == 0:
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early


class HQMaskDecoder(MaskDecoder):
    """segment-anything's mask decoder, and the token, features and layers of SAM-HQ under their published names.

    Args:
        width: Channels of the image encoder.
        transformer_dim: ``C``.
        more: As ``MaskDecoder`` takes it.
    """

    def __init__(self, *, width: int, transformer_dim: int, **more: Any) -> None:
        super().__init__(transformer_dim=transformer_dim, **more)
        quarter, eighth = transformer_dim // 4, transformer_dim // 8
        double = partial(nn.ConvTranspose2d, kernel_size=2, stride=2)
        same = partial(nn.Conv2d, kernel_size=3, padding=1)
        self.hf_token = nn.Embedding(1, transformer_dim)
        self.hf_mlp = MLP(transformer_dim, transformer_dim, eighth, 3)
        self.compress_vit_feat = nn.Sequential(
            double(width, transformer_dim), LayerNorm2d(transformer_dim), nn.GELU(), double(transformer_dim, eighth)
        )
        self.embedding_encoder = nn.Sequential(
            double(transformer_dim, quarter), LayerNorm2d(quarter), nn.GELU(), double(quarter, eighth)
        )
        self.embedding_maskfeature = nn.Sequential(
            same(eighth, quarter), LayerNorm2d(quarter), nn.GELU(), same(quarter, eighth)
        )

    def details(self, embedding: Tensor, early: Tensor) -> Tensor:
        """Return the features of fine borders, ``(N, C / 8, 4h, 4w)``, of what :class:`HQEncoder` returns."""
        return self.embedding_encoder(embedding) + self.compress_vit_feat(early.permute(0, 3, 1, 2))


class SAMHQBackend(SegmentAnythingBackend):
    """A SAM-HQ. To each mask of segment-anything's tokens the logits of the further token are added, as published."""

    def _encode_chunk(self, inputs: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            embedding, early = self.sam.image_encoder(inputs)
            details = self.sam.mask_decoder.details(embedding, early)
        return {FEATURES: embedding.float(), DETAILS: details.float()}

    def _predict_masks(self, maps: dict[str, Tensor], sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        decoder: HQMaskDecoder = self.sam.mask_decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hf_token.weight])
        position = self.sam.prompt_encoder.get_dense_pe()
        hidden, upscaled = attend(decoder, tokens, maps[FEATURES], position, sparse, dense)
        logits, quality = masks_of_tokens(decoder, hidden, upscaled)
        fine = decoder.embedding_maskfeature(upscaled) + maps[DETAILS]
        of_token = decoder.hf_mlp(hidden[:, len(tokens) - 1])[:, None] @ fine.flatten(2)
        return logits + of_token.unflatten(2, fine.shape[2:]), quality

    def class_decoders(self, classes: int, count: int, train_encoder: bool) -> nn.Module:
        """Refuse: the details belong to a prompt's mask, not to a class."""
        return super(SegmentAnythingBackend, self).class_decoders(classes, count, train_encoder)


def build_sam_hq(
    width: int,
    depth: int,
    heads: int,
    global_blocks: tuple[int, ...],
    side: int = 1024,
    dim: int = 256,
) -> Sam:
    """Return the network with random weights.

    Args:
        width: Channels of the image encoder.
        depth: Blocks of the image encoder.
        heads: Attention heads of a block.
        global_blocks: Blocks whose attention sees the whole image; the others see windows.
        side: ``S``, a multiple of 16.
        dim: ``C``.
    """
    encoder = HQEncoder(
        img_size=side,
        patch_size=PATCH,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=4,
        out_chans=dim,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=global_blocks,
    )
    decoder = build_decoder(dim, partial(HQMaskDecoder, width=width))
    return Sam(encoder, build_prompt_encoder(side, side // PATCH, dim), decoder)


def build_sam_hq_vit_b() -> Sam:
    """Return the network of the published ``sam_hq_vit_b.pth`` with random weights."""
    return build_sam_hq(768, 12, 12, (2, 5, 8, 11))


def build_sam_hq_vit_l() -> Sam:
    """Return the network of the published ``sam_hq_vit_l.pth`` with random weights."""
    return build_sam_hq(1024, 24, 16, (5, 11, 17, 23))


def build_sam_hq_vit_h() -> Sam:
    """Return the network of the published ``sam_hq_vit_h.pth`` with random weights."""
    return build_sam_hq(1280, 32, 16, (7, 15, 23, 31))


def load(family: Family, options: BackendOptions) -> SAMHQBackend:
    """Return a SAM-HQ with its weights; see ``build_backend``."""
    return load_sam(family, options, backend=SAMHQBackend)
