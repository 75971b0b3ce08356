"""How a network's output channels, label maps and the things that SAM is asked about belong together.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LabelLayout:
    """The part of nnU-Net's label manager that pseudo-labels need.

    Attributes:
        foreground_labels: The labels of a label map, without background and ignore label, ascending.
        has_regions: Whether the output channels are regions (sigmoid) instead of classes (softmax, background first).
        regions: The labels that make up each region, in the order of the output channels; empty without regions.
        to_label_map: nnU-Net's ``convert_probabilities_to_segmentation``: ``(K, *S)`` to ``(*S)``.
    """

    foreground_labels: tuple[int, ...]
    has_regions: bool
    regions: tuple[tuple[int, ...], ...]
    to_label_map: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def from_label_manager(cls, label_manager: Any) -> LabelLayout:
        """Return the layout of an nnU-Net ``LabelManager``."""
        regions = label_manager.foreground_regions if label_manager.has_regions else []
        return cls(
            foreground_labels=tuple(int(label) for label in label_manager.foreground_labels),
            has_regions=bool(label_manager.has_regions),
            regions=tuple(tuple(int(i) for i in np.atleast_1d(region)) for region in regions),
            to_label_map=label_manager.convert_probabilities_to_segmentation,
        )

    @property
    def channels(self) -> int:
        """Return ``F``, the number of foreground classes or regions."""
        return len(self.regions) if self.has_regions else len(self.foreground_labels)

    @property
    def prompt_labels(self) -> list[int]:
        """Return what prompts call each foreground channel: the label, or the index of the region."""
        return list(range(self.channels)) if self.has_regions else list(self.foreground_labels)

    @property
    def names(self) -> list[str]:
        """Return a short name for each foreground channel, for logs."""
        if self.has_regions:
            return ["+".join(map(str, region)) for region in self.regions]
        return [str(label) for label in self.foreground_labels]

    def foreground(self, probs: np.ndarray) -> np.ndarray:
        """Return the foreground channels ``(F, *S)`` of a network's output ``(K, *S)``."""
        return probs if self.has_regions else probs[1:]

    def label_map(self, foreground: np.ndarray) -> np.ndarray:
        """Return the label map, ``(*S)``, int16, of foreground claims ``(F, *S)`` in [0, 1].

        Classes may claim more than 1 together; the background gets what they leave.
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
