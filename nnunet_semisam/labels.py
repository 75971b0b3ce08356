"""What a network's output channels mean: exclusive classes or overlapping regions, in one object.

Shapes in this file: ``B`` batch, ``K`` output channels of the network (classes including the background, or regions),
``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.errors import printable


@dataclass(frozen=True)
class Labels:
    """The part of nnU-Net's label manager that losses, gate, prompts and pseudo-labels need.

    Attributes:
        foreground_labels: The labels of a label map, without background and ignore label, ascending.
        has_regions: Whether the output channels are regions (sigmoid) instead of classes (softmax, background first).
        regions: The labels that make up each region, in the order of the output channels; empty without regions.
        to_label_map: nnU-Net's ``convert_probabilities_to_segmentation``: ``(K, *S)`` to ``(*S)``.
        given_names: The names that ``dataset.json`` gives the foreground channels, in their order; empty: none known.

    Example:
        >>> labels = Labels.of_classes(3)
        >>> labels.heads, labels.channels, labels.names
        (3, 2, ['1', '2'])
        >>> labels.hard(torch.tensor([[[0.2], [0.7], [0.1]]])).flatten().tolist()
        [0.0, 1.0, 0.0]
    """

    foreground_labels: tuple[int, ...]
    has_regions: bool
    regions: tuple[tuple[int, ...], ...]
    to_label_map: Callable[[np.ndarray], np.ndarray]
    given_names: tuple[str, ...] = ()

    @classmethod
    def from_label_manager(cls, label_manager: Any) -> Labels:
        """Return the labels of an nnU-Net ``LabelManager``."""
        regions = label_manager.foreground_regions if label_manager.has_regions else []
        channels = regions if label_manager.has_regions else label_manager.foreground_labels
        names = {_values(value): str(name) for name, value in label_manager.label_dict.items()}
        return cls(
            foreground_labels=tuple(int(label) for label in label_manager.foreground_labels),
            has_regions=bool(label_manager.has_regions),
            regions=tuple(_values(region) for region in regions),
            to_label_map=label_manager.convert_probabilities_to_segmentation,
            given_names=tuple(names[_values(value)] for value in channels),
        )

    @classmethod
    def of_classes(cls, heads: int) -> Labels:
        """Return the labels of a network with ``heads`` exclusive classes 0 (background), 1, 2 and so on."""
        return cls(tuple(range(1, heads)), False, (), _argmax)

    @classmethod
    def of_regions(cls, heads: int) -> Labels:
        """Return the labels of a network with ``heads`` nested regions: region ``i`` holds the labels above ``i``."""
        labels = tuple(range(1, heads + 1))
        regions = tuple(tuple(label for label in labels if label > i) for i in range(heads))
        return cls(labels, True, regions, _last_region)

    # ------------------------------------------------------------------------------------------------------- counts

    @property
    def channels(self) -> int:
        """Return ``F``, the number of foreground classes or regions."""
        return len(self.regions) if self.has_regions else len(self.foreground_labels)

    @property
    def heads(self) -> int:
        """Return ``K``, the number of output channels of the network."""
        return self.channels if self.has_regions else self.channels + 1

    @property
    def first_foreground(self) -> int:
        """Return the first output channel that is foreground: 1, or 0 for regions, which have no background."""
        return self.heads - self.channels

    @property
    def prompt_labels(self) -> list[int]:
        """Return what prompts call each foreground channel: the label, or the index of the region."""
        return list(range(self.channels)) if self.has_regions else list(self.foreground_labels)

    @property
    def names(self) -> list[str]:
        """Return the number of each foreground channel, or those of its region, as records keep it: ``1+2``."""
        if self.has_regions:
            return ["+".join(map(str, region)) for region in self.regions]
        return [str(label) for label in self.foreground_labels]

    @property
    def class_names(self) -> list[str]:
        """Return what people call each foreground channel: its name in ``dataset.json``, else its number."""
        return [printable(name) for name in self.given_names] or self.names

    # ------------------------------------------------------------------------------------------- tensors, in the step

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class or region probabilities of logits ``(B, K, *S)``, in float32."""
        return logits.float().sigmoid() if self.has_regions else logits.float().softmax(dim=1)

    def hard(self, probs: Tensor) -> Tensor:
        """Return one-hot classes (argmax) or thresholded regions (0.5); shape and dtype of ``probs`` ``(B, K, *S)``."""
        if self.has_regions:
            return (probs > 0.5).to(probs.dtype)
        winner = probs.max(dim=1, keepdim=True).indices  # on CPUs seven times as fast as argmax over this axis
        return torch.zeros_like(probs).scatter_(1, winner, 1.0)

    def certainty(self, probs: Tensor) -> Tensor:
        """Return how certain probabilities ``(B, K, *S)`` are, ``(B, 1, *S)``, in [0, 1].

        The probability of the winning class; for regions the certainty of the least certain one, which is at least 0.5.
        """
        if self.has_regions:
            return torch.maximum(probs, 1 - probs).min(dim=1, keepdim=True).values
        return probs.max(dim=1, keepdim=True).values

    # --------------------------------------------------------------------------------------- arrays, between the steps

    def foreground(self, probs: np.ndarray) -> np.ndarray:
        """Return the foreground channels ``(F, *S)`` of a network's output ``(K, *S)``."""
        return probs if self.has_regions else probs[1:]

    def label_map(self, foreground: np.ndarray) -> np.ndarray:
        """Return the label map, ``(*S)``, int16, of foreground probabilities ``(F, *S)`` in [0, 1].

        Classes may sum to more than 1; the background gets what they leave.
        """
        if not self.has_regions:
            background = np.clip(1 - foreground.sum(axis=0, keepdims=True), 0, None)
            foreground = np.concatenate([background, foreground])
        return np.asarray(self.to_label_map(foreground)).astype(np.int16)

    def members(self, label: np.ndarray, channel: int) -> np.ndarray:
        """Return where a label map ``(*S)`` lies in a foreground class or region, ``(*S)``, bool."""
        if self.has_regions:
            return np.isin(label, self.regions[channel])
        return label == self.foreground_labels[channel]


def _values(value: Any) -> tuple[int, ...]:
    """Return the labels that a value of ``dataset.json``'s ``labels`` names: one, or those of a region."""
    return tuple(int(label) for label in np.atleast_1d(value))


def _argmax(probs: np.ndarray) -> np.ndarray:
    return probs.argmax(axis=0)


def _last_region(probs: np.ndarray) -> np.ndarray:
    """Return the label of the innermost region that each voxel is in."""
    label = np.zeros(probs.shape[1:], dtype=np.int16)
    for i, region in enumerate(probs):
        label[region > 0.5] = i + 1
    return label
