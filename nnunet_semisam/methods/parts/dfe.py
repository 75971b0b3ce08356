"""Feature enhancement between two views, as SSS has it: what they share and what they do not, learned and added back.

Shapes in this file: ``B`` batch, ``*S`` the spatial axes of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FeatureEnhancement(nn.Module):
    """Adds to the features of one view what a second view of the same voxels says, at every stage of the encoder.

    Where two views have similar features (cosine over channels), their mean is taken; where not, their difference. Each
    goes through a convolution of its own and is added. The convolutions begin at 0: at first nothing is changed.

    Args:
        channels: Channels of the features of each stage, from fine to coarse.
        spatial_dims: 2 or 3.

    Source:
        The "discriminative feature enhancement" of SSS, https://arxiv.org/abs/2506.08949: the parts (several scales,
        similarity, dissimilarity, added back) are the paper's; formulas are unpublished, and these are ours.

    Example:
        >>> import torch
        >>> enhance = FeatureEnhancement([4], spatial_dims=2)
        >>> first, second = torch.rand(1, 4, 6, 6), torch.rand(1, 4, 6, 6)
        >>> torch.equal(enhance([first], [second])[0], first)
        True
    """

    def __init__(self, channels: Sequence[int], spatial_dims: int) -> None:
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[spatial_dims - 2]
        self.of_similar = nn.ModuleList(convolution(count, count, 1, bias=False) for count in channels)
        self.of_dissimilar = nn.ModuleList(convolution(count, count, 1, bias=False) for count in channels)
        for layer in (*self.of_similar, *self.of_dissimilar):
            nn.init.zeros_(layer.weight)

    def forward(self, features: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
        """Return the enhanced features, of the shapes of ``features``.

        Args:
            features: Of the view that is decoded, ``(B, channels, *S)`` for each stage.
            others: Of the other view, of the same shapes; constants.
        """
        enhanced = []
        for one, other, similar, dissimilar in zip(features, others, self.of_similar, self.of_dissimilar, strict=True):
            other = other.detach()
            alike = (1 + F.cosine_similarity(one, other, dim=1).unsqueeze(1)) / 2
            enhanced.append(one + similar(alike * (one + other) / 2) + dissimilar((1 - alike) * (one - other)))
        return enhanced
