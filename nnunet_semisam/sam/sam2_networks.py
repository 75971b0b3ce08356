"""SAM 2's network in its published sizes, with random weights, built of the classes in transformers.

Sizes: configuration files in ``sam2/configs`` of https://github.com/facebookresearch/sam2 (Apache-2.0); MedSAM2 is
the smallest one at half the side, https://github.com/bowang-lab/MedSAM2. transformers is imported when a network is
built.

Source: Ravi et al., SAM 2: Segment Anything in Images and Videos, https://arxiv.org/abs/2408.00714.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

PATCH = 16  # pixels of the input per pixel of the image embedding


@dataclass(frozen=True)
class EncoderSize:
    """What the sizes differ in: the image encoder (Hiera) alone.

    Attributes:
        width: Channels of its first stage; doubled from stage to stage.
        heads: Attention heads of its first stage; doubled, too.
        blocks: Blocks of each of the four stages.
        global_blocks: Blocks with global attention, counted over all stages.
        windows: Side of the attention windows of each stage.
        background: Side of the coarse positional embedding.
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7


TINY = EncoderSize(96, 1, (1, 2, 7, 2), (5, 7, 9))
SMALL = EncoderSize(96, 1, (1, 2, 11, 2), (7, 10, 13))
BASE_PLUS = EncoderSize(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14)
LARGE = EncoderSize(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8))


def transformers_library() -> Any:
    """Return the library ``transformers``.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            'SAM 2 and MedSAM2 need the library transformers. Install it: pip install "nnunet-semisam[sam2]".'
        ) from error
    return transformers


def build(size: EncoderSize, improved: bool, side: int = 1024) -> Sam2VideoModel:
    """Return a network with random weights.

    Args:
        size: Of the image encoder.
        improved: Whether it is of SAM 2.1, which knows how far back a memory is and when an object is hidden.
        side: Side of the input in pixels.
    """
    library = transformers_library()
    widths = [size.width * 2**stage for stage in range(4)]
    vision = library.Sam2VisionConfig(
        backbone_config=library.Sam2HieraDetConfig(
            image_size=[side, side],
            hidden_size=size.width,
            num_attention_heads=size.heads,
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[size.heads * 2**stage for stage in range(4)],
            blocks_per_stage=list(size.blocks),
            global_attention_blocks=list(size.global_blocks),
            window_size_per_stage=list(size.windows),
            window_positional_embedding_background_size=[size.background, size.background],
        ),
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, PATCH)],
    )
    config = library.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=library.Sam2VideoPromptEncoderConfig(image_size=side),
        image_size=side,
        memory_attention_rope_feat_sizes=[side // PATCH] * 2,
        enable_temporal_pos_encoding_for_object_pointers=improved,
        enable_occlusion_spatial_embedding=improved,
    )
    return library.Sam2VideoModel(config).eval()


sam2_tiny = partial(build, TINY, False)
sam2_small = partial(build, SMALL, False)
sam2_base_plus = partial(build, BASE_PLUS, False)
sam2_large = partial(build, LARGE, False)
sam2_1_tiny = partial(build, TINY, True)
sam2_1_small = partial(build, SMALL, True)
sam2_1_base_plus = partial(build, BASE_PLUS, True)
sam2_1_large = partial(build, LARGE, True)
medsam2 = partial(build, TINY, True, 512)
