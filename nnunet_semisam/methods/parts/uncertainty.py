"""How uncertain predictions are: entropy, and the mean over several noisy forward passes.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network, ``*S`` spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels


def normalised_entropy(probs: Tensor, labels: Labels) -> Tensor:
    """Return the entropy of probabilities relative to its largest value, ``(B, 1, *S)``, in [0, 1].

    For classes this is the entropy over ``ln K``; for regions the mean of the binary entropies over ``ln 2``.

    Args:
        probs: ``(B, K, *S)``, in [0, 1].
        labels: What the channels mean.

    Example:
        >>> probs = torch.tensor([[[0.5, 1.0], [0.5, 0.0]]])
        >>> normalised_entropy(probs, Labels.of_classes(2)).flatten().tolist()
        [1.0, 0.0]
    """
    if labels.has_regions:
        binary = torch.special.entr(probs) + torch.special.entr(1 - probs)
        return binary.mean(dim=1, keepdim=True) / math.log(2)
    return torch.special.entr(probs).sum(dim=1, keepdim=True) / math.log(labels.heads)


def mean_of_noisy_passes(
    predict: Callable[[Tensor], Tensor], images: Tensor, passes: int, noise: float, limit: float
) -> Tensor:
    """Return the mean prediction over noisy copies of images, ``(B, K, *S)``.

    nnU-Net's networks have no dropout, so that the noise of the images is what makes the passes differ.

    Args:
        predict: From images to probabilities ``(B, K, *S)``, without gradient.
        images: ``(B, C, *S)``, normalised by nnU-Net (standard deviation about 1).
        passes: How many copies, at least 1.
        noise: Standard deviation of the Gaussian noise.
        limit: Largest absolute value of the noise.

    Source:
        Yu et al., MICCAI 2019, https://arxiv.org/abs/1907.07034: eight passes with dropout and noise.
    """
    total = torch.zeros(())
    for index in range(passes):
        noisy = predict(images + (noise * torch.randn_like(images)).clamp(-limit, limit))
        total = noisy if index == 0 else total + noisy
    return total / passes
