from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def build_tiny_vit_sam() -> Sam:
    """segment-anything's own classes, one transformer block deep and 64 pixels wide."""
    side, patch, dim = 64, 16, 32
    encoder = ImageEncoderViT(
        depth=1,
        embed_dim=32,
        img_size=side,
        mlp_ratio=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=2,
        patch_size=patch,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[0],
        window_size=2,
        out_chans=dim,
    )
    return Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(dim, (side // patch, side // patch), (side, side), mask_in_chans=8),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=2, mlp_dim=64),
            transformer_dim=dim,
            iou_head_depth=3,
            iou_head_hidden_dim=32,
        ),
    ).eval()


@pytest.fixture(scope="session")
def tiny_sam() -> Sam:
    torch.manual_seed(0)
    return build_tiny_vit_sam()


@pytest.fixture(scope="session")
def nano_sam() -> Sam:
    from nnunet_semisam.sam.nano.model import build_nano_sam

    torch.manual_seed(0)
    return build_nano_sam(image_size=64, dim=32, widths=(16, 16, 16))
