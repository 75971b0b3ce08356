"""Class prototypes: what the features of a class look like on average, and how alike a feature is to them.

A *side* is what a voxel can be: for classes the background and each class; for overlapping regions each region and,
before all of them, what lies outside of each.

Shapes in this file: ``F`` foreground classes or regions, ``P`` sides (``1 + F``, or ``2 F`` for regions), ``N`` images,
``c`` feature channels, ``*S`` voxels, ``*G`` cells of a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_semisam.labels import Labels


def sides_of(label: np.ndarray, labels: Labels) -> np.ndarray:
    """Return where a label map ``(*S)`` lies on each side, ``(P, *S)``, float32, 0 or 1.

    Voxels of the ignore label, which is higher than all others, lie on no side.
    """
    inside = [labels.members(label, f) for f in range(labels.channels)]
    known = label <= max(labels.foreground_labels)
    outside = [known & ~each for each in inside] if labels.has_regions else [label == 0]
    return np.stack([*outside, *inside]).astype(np.float32)


def prototypes_of(features: Tensor, shares: Tensor) -> Tensor:
    """Return the normalised mean feature of each side.

    Args:
        features: ``(N, c, *G)``.
        shares: How much of each cell lies on each side, ``(N, P, *G)``, at least 0.

    Returns:
        ``(P, c)``, of length 1; 0 for sides that no cell shows.
    """
    total = torch.einsum("ncg,npg->pc", features.flatten(2).double(), shares.flatten(2).double())
    return F.normalize(total, dim=1).float()


def mean_prototypes(prototypes: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Return the normalised mean of the prototypes of several cases, ``(P, c)`` each and together.

    Args:
        prototypes: Of each case; a side that a case does not show is 0 there and counts nothing.
        weights: Of each case, at least 0; ``None``: all count alike.
    """
    stacked = torch.stack(list(prototypes)).double()
    shares = torch.tensor([1.0] * len(stacked) if weights is None else list(weights), dtype=torch.float64)
    return F.normalize(torch.einsum("n,npc->pc", shares, stacked), dim=1).float()


def similarity(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return the cosine between each cell's feature and each prototype.

    Args:
        features: ``(N, c, *G)``.
        prototypes: ``(P, c)``, normalised.

    Returns:
        ``(N, P, *G)``, in [-1, 1].
    """
    return torch.einsum("nc...,pc->np...", F.normalize(features.float(), dim=1), prototypes)


def probabilities(similarities: Tensor, known: Tensor, labels: Labels, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the probability of each class or region, and how certain it is.

    The softmax over the sides of a voxel, of similarities divided by a temperature: over background and classes, or
    over the outside and the inside of each region. Certainty is 1 minus the entropy, as a share of the largest.

    Args:
        similarities: ``(N, P, *S)``.
        known: Which sides have a prototype, ``(P,)``, bool; the others have probability 0.
        labels: What the channels mean.
        temperature: Above 0; the lower, the nearer probabilities are to 0 and 1.

    Returns:
        Probabilities and certainties, ``(N, F, *S)`` each, float32, in [0, 1]. A class has no probability and no
        certainty where it, or all that it could be told from, has no prototype.

    Example:
        One voxel that is as alike to class 1 as to the background:

        >>> alike = torch.tensor([[0.5, 0.5]]).reshape(1, 2, 1)
        >>> both = torch.ones(2, dtype=torch.bool)
        >>> [found.flatten().tolist() for found in probabilities(alike, both, Labels.of_classes(2), 0.1)]
        [[0.5], [0.0]]
    """
    channels = labels.channels
    if labels.has_regions:
        pairs = similarities.unflatten(1, (2, channels)).movedim(1, 2).flatten(0, 1)  # (N * F, 2, *S)
        both = (known[:channels] & known[channels:]).repeat(len(similarities))
        probs, certainty = _softmax(pairs, temperature)
        shape = (len(similarities), channels, *similarities.shape[2:])
        comparable = both.reshape(shape[:2] + (1,) * (len(shape) - 2))
        return (probs[:, 1].reshape(shape) * comparable).float(), (certainty.reshape(shape) * comparable).float()
    found = torch.zeros_like(similarities, dtype=torch.float32)
    if int(known.sum()) < 2:
        return found[:, 1:], found[:, 1:].clone()
    found[:, known], certainty = _softmax(similarities[:, known], temperature)
    comparable = known[1:].reshape(1, -1, *[1] * (similarities.ndim - 2))
    return found[:, 1:], certainty[:, None] * comparable


def _softmax(similarities: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the softmax over axis 1, and ``1 - entropy / largest entropy`` without that axis."""
    log_probs = (similarities.float() / temperature).log_softmax(dim=1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(dim=1)
    return probs, (1 - entropy / math.log(similarities.shape[1])).clamp(0, 1)


def mean_entropy(probs: np.ndarray, labels: Labels) -> float:
    """Return the mean entropy of a network's probabilities, as a share of the largest, in [0, 1].

    Args:
        probs: ``(K, *S)``: softmax, or sigmoid regions, whose entropies are averaged.
        labels: What the channels mean.
    """
    values = np.clip(probs, 1e-7, 1).astype(np.float32)
    entropy = -(values * np.log(values)).sum(axis=0)
    if not labels.has_regions:
        return float(np.clip(entropy.mean() / math.log(len(probs)), 0, 1))
    rest = np.clip(1 - probs, 1e-7, 1).astype(np.float32)
    entropy = entropy - (rest * np.log(rest)).sum(axis=0)
    return float(np.clip(entropy.mean() / (len(probs) * math.log(2)), 0, 1))
