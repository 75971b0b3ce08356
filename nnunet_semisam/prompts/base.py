"""What every prompt strategy must do: turn the network's opinion into questions for a SAM.

Shapes in this file: ``N`` slices (or volumes for a 3D SAM), ``K`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nnunet_semisam.registry import Registry
from nnunet_semisam.sam.base import PromptBatch


class PromptStrategy(Protocol):
    """A pure function of the network's opinion: same input, same prompts."""

    def __call__(self, probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
        """Return one prompt set for each component of :func:`nnunet_semisam.prompts.components.find_components`.

        Args:
            probs: Foreground probabilities of the network, ``(N, K, *S)``, in [0, 1].
            labels: The nnU-Net label (or region index) of each of the ``K`` channels.
            overlapping: Whether the channels are regions that may overlap (sigmoid) instead of classes that exclude
                each other and a background (softmax); ``None`` takes them for regions if any voxel sums to more than 1.

        Returns:
            Prompts in the order of the components; no prompt at all (``len() == 0``) where the network sees nothing.
            The kinds that the strategy asks with are never ``None``, not even then.
        """


PROMPTS: Registry[PromptStrategy] = Registry("prompt strategy")
