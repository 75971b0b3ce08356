"""Where several predictions of one image are unsure, and where they contradict each other.

The entropy of the mean prediction is the total uncertainty; what is left of it after the mean entropy of the single
predictions is their disagreement, the mutual information of prediction and network (Houlsby et al. 2011,
https://arxiv.org/abs/1112.5745; Gal et al. 2017, https://arxiv.org/abs/1703.02910). The first is high on every blurred
border, the second where the model would learn most from a label.

Shapes in this file: ``K`` output channels of the network, ``*S`` spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels


@dataclass(frozen=True)
class Uncertainty:
    """What several predictions say together.

    Attributes:
        mean: Mean of the probabilities, ``(K, *S)``.
        entropy: Entropy of the mean, as a share of the largest possible one, ``(*S)``, in [0, 1].
        disagreement: Entropy of the mean minus the mean of the entropies, in the same unit, ``(*S)``, in [0, 1].
        predictions: How many there were.
    """

    mean: Tensor
    entropy: Tensor
    disagreement: Tensor
    predictions: int


def entropy(probs: Tensor, labels: Labels) -> Tensor:
    """Return the entropy of probabilities ``(K, *S)`` as a share of the largest possible one, ``(*S)``, in [0, 1].

    Of regions, which do not exclude each other, it is the mean over regions of being inside or not.

    Example:
        >>> entropy(torch.tensor([[0.5], [0.5]]), Labels.of_classes(2)).tolist()
        [1.0]
    """
    probs = probs.float()
    if labels.has_regions:
        return ((torch.special.entr(probs) + torch.special.entr(1 - probs)).mean(dim=0) / math.log(2)).clamp(0, 1)
    return (torch.special.entr(probs).sum(dim=0) / math.log(len(probs))).clamp(0, 1)


def combine(predictions: Iterable[Tensor], labels: Labels) -> Uncertainty:
    """Return mean, entropy and disagreement of predictions; one at a time is in memory.

    Args:
        predictions: Probabilities, ``(K, *S)`` each, at least one.
        labels: What the channels mean.

    Raises:
        ValueError: If there is no prediction.
    """
    total, entropies, count = None, None, 0
    for probs in predictions:
        own = entropy(probs, labels)
        total = probs.float().clone() if total is None else total.add_(probs)
        entropies = own if entropies is None else entropies.add_(own)
        count += 1
    if total is None:
        raise ValueError("There is no prediction to combine.")
    mean = total / count
    of_mean = entropy(mean, labels)
    return Uncertainty(mean, of_mean, (of_mean - entropies / count).clamp(min=0), count)
