"""SAM-Med2D: segment-anything's vit_b at 256 pixels, with an adapter in every block of the image encoder.

Shapes in this file: ``N`` images, ``h, w`` of the patch grid, ``C`` channels of the encoder.

Source: Cheng et al., SAM-Med2D, https://arxiv.org/abs/2308.16184; structure and names of the weights as in
https://github.com/OpenGVLab/SAM-Med2D.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn

from nnunet_semisam.sam import BackendOptions
from nnunet_semisam.sam.decoder_parts import build_decoder, build_prompt_encoder
from nnunet_semisam.sam.family import Family
from nnunet_semisam.sam.segment_anything import SegmentAnythingBackend, load_sam

REDUCTION = 4  # channels of the encoder per channel of the gate's bottleneck
PATCH = 16
WINDOW = 14


class Adapter(nn.Module):
    """A channel gate and a small convolutional branch beside a residual path, then a normalisation.

    Args:
        channels: ``C``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(channels, channels // REDUCTION, bias=False),
            nn.ReLU(),
            nn.Linear(channels // REDUCTION, channels, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(N, h, w, C)`` of tokens of that shape; ``h`` and ``w`` are even."""
        gate = self.channel(tokens.mean(dim=(1, 2)))[:, :, None, None]
        maps = tokens.permute(0, 3, 1, 2)
        return self.norm((maps + self.spatial(gate * maps)).permute(0, 2, 3, 1))


class AdapterBlock(Block):
    """segment-anything's transformer block with an adapter beside its MLP. The arguments are those of ``Block``."""

    def __init__(self, dim: int, **more: Any) -> None:
        super().__init__(dim, **more)
        self.Adapter = Adapter(dim)  # the name that the published weights have

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, h, w, C)`` of tokens of that shape."""
        attended = self.norm1(x)
        if self.window_size > 0:
            size = attended.shape[1:3]
            windows, padded = window_partition(attended, self.window_size)
            attended = window_unpartition(self.attn(windows), self.window_size, padded, size)
        else:
            attended = self.attn(attended)
        x = x + attended
        normalised = self.norm2(x)
        return x + self.mlp(normalised) + self.Adapter(normalised)


def build_sam_med2d(
    side: int = 256,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    global_blocks: tuple[int, ...] = (2, 5, 8, 11),
    dim: int = 256,
) -> Sam:
    """Return the network with random weights; the defaults are those of the published ``sam-med2d_b.pth``.

    Args:
        side: Side of the input in pixels, a multiple of 32.
        width: Channels of the image encoder.
        depth: Blocks of the image encoder.
        heads: Attention heads of a block.
        global_blocks: Blocks whose attention sees the whole image; the others see windows.
        dim: Channels of the embedding.
    """
    grid = side // PATCH
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=PATCH,
        embed_dim=width,
        depth=0,
        num_heads=heads,
        out_chans=dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    encoder.blocks = nn.ModuleList(
        AdapterBlock(
            width,
            num_heads=heads,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=0 if index in global_blocks else WINDOW,
            input_size=(grid, grid),
        )
        for index in range(depth)
    )
    return Sam(encoder, build_prompt_encoder(side, grid, dim), build_decoder(dim))


def load(family: Family, options: BackendOptions) -> SegmentAnythingBackend:
    """Return SAM-Med2D with its weights; see ``build_backend``.

    Of the candidate masks the best is taken for every prompt, boxes and masks included: the mask for unambiguous
    prompts was not trained (``--multimask`` in its ``train.py``).
    """
    return load_sam(family, options, best_candidate=True)
