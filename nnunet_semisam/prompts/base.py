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

    def __call__(self, probs: Tensor, labels: list[int]) -> PromptBatch:
        """Return one prompt set for each connected component of each class in each image.

        Args:
            probs: Foreground probabilities of the network, ``(N, K, *S)``, in [0, 1].
            labels: The nnU-Net label (or region index) of each of the ``K`` channels.

        Returns:
            Possibly no prompt at all (``len() == 0``) where the network sees nothing.
        """


PROMPTS: Registry[PromptStrategy] = Registry("prompt strategy")
