"""Networks with changed features between encoder and decoder, as learners of a term.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_semisam.methods.parts.networks import forward_with

Features = list[Tensor]  # of an encoder, (B, channels, *S_stage) each, from fine to coarse


@dataclass(frozen=True)
class ChangedFeatures:
    """A network whose features are changed on their way to the decoder; callable like the network.

    Attributes:
        network: A network of nnU-Net's encoder-decoder kind; it is the one that learns.
        change: Gets the features, and returns as many of the same shapes.
    """

    network: nn.Module
    change: Callable[[Features], Features]

    def __call__(self, images: Tensor) -> Tensor | list[Tensor]:
        """Return logits of images ``(B, C, *S)`` as the network itself would."""
        return forward_with(self.network, images, self.change)


def channel_mask(features: Tensor, probability: float) -> Tensor:
    """Draw which channels of each image are kept, ``(B, channels, 1, ...)``, bool.

    Args:
        features: ``(B, channels, *S)``.
        probability: Of a channel being dropped, in [0, 1).
    """
    shape = (*features.shape[:2], *[1] * (features.ndim - 2))
    return torch.rand(shape, device=features.device) >= probability


def channel_dropout(features: Features, probability: float) -> Features:
    """Return features of which whole channels are 0, and the others larger, so that their mean stays.

    Source:
        UniMatch, https://arxiv.org/abs/2208.09910, section 3.3: channel dropout of 50 % on all features.
    """
    return [each * channel_mask(each, probability) / (1 - probability) for each in features]


class ComplementaryDropout:
    """Channel dropout of two views: what one keeps, the other drops. Make one for each step.

    Some images keep all channels in both views, at all stages.

    Args:
        probability: Of an image being changed, in [0, 1].

    Source:
        UniMatch V2, https://arxiv.org/abs/2410.10777, section 4.2: halves of the channels, in half of the images.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability
        self._masks: list[Tensor] | None = None

    def first(self, features: Features) -> Features:
        """Return the features of the first view, of which about half of the channels are dropped."""
        changed = torch.rand(len(features[0]), device=features[0].device) < self.probability
        self._masks = [self._draw(each, changed) for each in features]
        return [each * mask for each, mask in zip(features, self._masks, strict=True)]

    def second(self, features: Features) -> Features:
        """Return the features of the second view, of which the other channels are dropped.

        Raises:
            RuntimeError: If the first view was not computed.
        """
        if self._masks is None:
            raise RuntimeError("The second view was asked for before the first one.")
        return [each * (2 - mask) for each, mask in zip(features, self._masks, strict=True)]

    @staticmethod
    def _draw(features: Tensor, changed: Tensor) -> Tensor:
        """Return 0 or 2 for channels of images that are changed, 1 for all of the others, ``(B, channels, 1, ...)``."""
        changed = changed.view(-1, *[1] * (features.ndim - 1))
        return torch.where(changed, 2.0 * channel_mask(features, 0.5), 1.0)
