"""The image encoder of the nano SAM: a small residual convolutional network with one look at the whole image.

Convolutions instead of SAM's vision transformer, because they learn from few steps what patches and attention need
many for. Shapes in this file: ``N`` images, ``S`` the side of the square input in pixels, ``C`` channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip connection, pre-activated.

    Args:
        channels: Channels in and out; a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        return x + self.second(F.gelu(self.first(self.norm(x))))


class MixingBlock(nn.Module):
    """ConvNeXt's block: a large depthwise kernel for context, then a pointwise network.

    Args:
        channels: Channels in and out; a multiple of 8.
        kernel: Odd side of the depthwise kernel.

    Source:
        Liu et al., A ConvNet for the 2020s, figure 4, https://arxiv.org/abs/2201.03545; group instead of layer
        normalisation, which keeps the tensor's layout.
    """

    def __init__(self, channels: int, kernel: int = 7) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)
        nn.init.normal_(self.project.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        return x + self.project(F.gelu(self.expand(self.norm(self.spatial(x)))))


class AttentionBlock(nn.Module):
    """Self-attention over all positions of a small map.

    Args:
        channels: Channels in and out.
        heads: Attention heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        nn.init.normal_(self.project.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        n, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        query, key, value = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, h * w, c)
        return x + self.project(mixed).transpose(1, 2).reshape(n, c, h, w)


class NanoEncoder(nn.Module):
    """Features at an eighth of the input's resolution, with detail from a quarter and context from a sixteenth.

    Args:
        img_size: Side of the square input in pixels; a multiple of 16. Named as segment-anything's ``Sam`` wants it.
        dim: Channels of the output.
        widths: Channels at strides 4, 8 and 16; multiples of 8.
    """

    stride = 8

    def __init__(self, img_size: int = 224, dim: int = 128, widths: tuple[int, int, int] = (48, 96, 192)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.img_size = img_size
        self.stem = nn.Sequential(
            nn.Conv2d(1, fine // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(fine // 2, fine, 3, stride=2, padding=1),
        )
        self.fine = ResidualBlock(fine)
        self.middle = nn.Sequential(
            nn.GroupNorm(GROUPS, fine),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1),
            ResidualBlock(middle),
            ResidualBlock(middle),
        )
        self.coarse = nn.Sequential(
            nn.GroupNorm(GROUPS, middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            ResidualBlock(coarse),
            AttentionBlock(coarse),
            ResidualBlock(coarse),
            MixingBlock(coarse),
        )
        self.from_fine = nn.Conv2d(fine, dim, 2, stride=2)
        self.from_middle = nn.Conv2d(middle, dim, 1)
        self.from_coarse = nn.Conv2d(coarse, dim, 1)
        self.merge = nn.Sequential(nn.GroupNorm(GROUPS, dim), nn.GELU(), nn.Conv2d(dim, dim, 3, padding=1))
        # Every channel must vary over the image. With one norm over several channels, constant channels of different
        # levels satisfy it, and a trial learned just that: to hide the image and to predict from the prompt alone.
        self.norm = nn.GroupNorm(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: ``(N, 1 or 3, S, S)``, float, normalised as the weights were trained; channels are averaged.

        Returns:
            ``(N, dim, S / 8, S / 8)``.
        """
        fine = self.fine(self.stem(x.mean(1, keepdim=True)))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        context = F.interpolate(self.from_coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        merged = self.from_fine(fine) + self.from_middle(middle) + context
        return self.norm(merged + self.merge(merged))
