"""How much of the image each class may claim: what the labeled cases show bounds what pseudo-labels may say.

The maturity gate measures the teacher on cases it was trained on. Whether it still finds a class on unlabeled cases no
label can tell, but the area can: a class that shrinks to nothing there, or floods the image, has lost its way.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

MEMORY = 0.98  # share of the old sums kept per batch: about fifty batches count


class AreaPrior:
    """Running share of voxels per output channel, of labeled truth and of pseudo-labels.

    Args:
        num_channels: ``K``.
        factor: A class may claim up to ``factor`` times its labeled share, and at least that share over ``factor``.
        has_regions: Whether channels are overlapping regions instead of classes.
    """

    def __init__(self, num_channels: int, factor: float, has_regions: bool) -> None:
        self.factor = factor
        self.has_regions = has_regions
        self.sums = {name: torch.zeros(num_channels + 1, dtype=torch.float64) for name in ("labeled", "unlabeled")}

    @torch.no_grad()
    def count(self, name: str, one_hot: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            name: ``labeled`` truth or ``unlabeled`` pseudo-labels.
            one_hot: Classes or regions, ``(B, K, *S)``.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``; ``None`` counts every voxel. Shares are shares of
                what was annotated, or sparse annotation would make every class look small.
        """
        valid = torch.ones_like(one_hot[:, :1]) if valid is None else valid
        voxels = (one_hot * valid).sum([0, *range(2, one_hot.ndim)])
        sums = torch.cat([voxels, valid.sum()[None]]).double()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        self.sums[name] = MEMORY * self.sums[name] + sums.cpu()

    def shares(self, name: str) -> Tensor:
        """Return the share of voxels per channel, ``(K,)``, in [0, 1]; 0 before the first batch."""
        return self.sums[name][:-1] / self.sums[name][-1].clamp(min=1.0)

    def class_trust(self) -> Tensor:
        """Return 1 within the bounds, falling to 0 beyond, ``(K,)``, float32; 1 before anything was counted.

        A class at twice its upper bound has trust 1/2, one at half its lower bound too. The background follows the
        worst class: what a vanished class lost, the background claims.
        """
        labeled, unlabeled = self.shares("labeled"), self.shares("unlabeled")
        if labeled.sum() == 0 or unlabeled.sum() == 0:
            return torch.ones_like(labeled, dtype=torch.float32)
        ratio = unlabeled / labeled.clamp(min=1e-9)
        trust = torch.minimum(self.factor / ratio.clamp(min=1e-9), self.factor * ratio).clamp(0, 1).float()
        if not self.has_regions:
            trust[0] = trust[1:].min()
        return trust

    def state_dict(self) -> dict:
        """Return the sums."""
        return dict(self.sums)

    def load_state_dict(self, state: dict) -> None:
        """Restore the sums."""
        self.sums = {name: value.cpu() for name, value in state.items()}
