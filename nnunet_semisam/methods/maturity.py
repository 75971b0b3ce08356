"""How far each class may speak in unlabeled terms: measured on labeled patches, never assumed from a step count.

A teacher that has not learned a class calls it background, and a student that believes it unlearns the class: a naive
Mean Teacher can end below plain nnU-Net. So a class is silent until the teacher finds it on labeled training patches,
and the background is silent until every class has been found.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

MEMORY = 0.9  # share of the old counts kept per measurement: about ten measurements count
WIDTH = 0.1  # Dice from the threshold to full trust


class MaturityGate:
    """Running Dice of the teacher per output channel, on labeled training patches.

    Args:
        num_channels: ``K``.
        threshold: Dice at which a class begins to speak, in [0, 1]; 0 lets everything speak at once.
        has_regions: Whether channels are overlapping regions instead of classes.
    """

    def __init__(self, num_channels: int, threshold: float, has_regions: bool) -> None:
        self.threshold = threshold
        self.has_regions = has_regions
        self.overlap = torch.zeros(num_channels, dtype=torch.float64)
        self.size = torch.zeros(num_channels, dtype=torch.float64)

    @torch.no_grad()
    def measure(self, prediction: Tensor, truth: Tensor, valid: Tensor) -> None:
        """Count one labeled batch.

        Args:
            prediction: Hard prediction, one-hot or regions, ``(B, K, *S)``.
            truth: Annotation in the same form.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``.
        """
        axes = [0, *range(2, prediction.ndim)]
        overlap = (prediction * truth * valid).sum(axes)
        size = ((prediction + truth) * valid).sum(axes)
        counts = torch.stack([overlap, size]).double()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)  # every rank must open the gate at the same step
        overlap, size = counts.cpu()
        self.overlap = MEMORY * self.overlap + overlap
        self.size = MEMORY * self.size + size

    def dice(self) -> Tensor:
        """Return the running Dice per channel, ``(K,)``; 0 where the class was never seen."""
        return torch.where(self.size > 0, 2 * self.overlap / self.size.clamp(min=1e-9), 0.0)

    def class_trust(self) -> Tensor:
        """Return how far each channel may speak, ``(K,)``, float32 in [0, 1]; the background waits for all."""
        if self.threshold == 0:
            return torch.ones_like(self.size, dtype=torch.float32)
        trust = ((self.dice() - self.threshold) / WIDTH).clamp(0, 1).float()
        if not self.has_regions:
            trust[0] = trust[1:].min()
        return trust

    def state_dict(self) -> dict:
        """Return the counts."""
        return {"overlap": self.overlap, "size": self.size}

    def load_state_dict(self, state: dict) -> None:
        """Restore the counts."""
        self.overlap, self.size = state["overlap"].cpu(), state["size"].cpu()
