"""A network that tells labeled from unlabeled patches by their segmentation.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network, ``*S`` spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 128)


class Discriminator(nn.Module):
    """Convolutions of stride 2 over segmentation and image, a mean over space, and one logit for each patch.

    Args:
        channels: Channels of segmentation and image together.
        spatial_dims: 2 or 3.

    Source:
        Zhang et al., MICCAI 2017, https://doi.org/10.1007/978-3-319-66179-7_47, whose network ends in layers of one
        patch size; a mean over space takes any.
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[spatial_dims - 2]
        layers: list[nn.Module] = []
        for width in WIDTHS:
            layers += [convolution(channels, width, kernel_size=3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 1)

    def forward(self, probs: Tensor, images: Tensor) -> Tensor:
        """Return the logit of each patch being a labeled one, ``(B,)``.

        Args:
            probs: Segmentation, ``(B, K, *S)``, in [0, 1].
            images: ``(B, C, *S)``.
        """
        features = self.convolutions(torch.cat([probs, images], dim=1))
        return self.head(features.flatten(2).mean(dim=2))[:, 0]
