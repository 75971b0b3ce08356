"""How much of the image each class may take: the shares on labeled patches bound those of targets on unlabeled ones.

The class gate measures the prompting network on cases it was trained on. Whether it still finds a class on unlabeled
cases no label can tell, but the area can: a class that shrinks to nothing there, or floods the image, is wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.ranks import sum_over_ranks

LABELED, UNLABELED = "labeled", "unlabeled"


class AreaPrior:
    """Running share of voxels per output channel, of labels and of targets on unlabeled patches.

    Args:
        labels: What the output channels mean.
        factor: A class may take up to ``factor`` times its labeled share, and at least that share over ``factor``.
        memory: Share of the old counts kept per batch, in [0, 1): with 0.98 about fifty batches count.

    Attributes:
        left_out: Channels that no labeled case shows: the background does not follow them.
    """

    def __init__(self, labels: Labels, factor: float, memory: float) -> None:
        self.labels, self.factor, self.memory = labels, factor, memory
        self.left_out: frozenset[int] = frozenset()
        self.sums = {name: torch.zeros(labels.heads + 1, dtype=torch.float64) for name in (LABELED, UNLABELED)}

    @torch.no_grad()
    def count(self, name: str, one_hot: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            name: ``labeled`` labels or ``unlabeled`` targets.
            one_hot: Classes or regions, ``(B, K, *S)``.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``; ``None`` counts every voxel. Shares are shares of
                what was annotated, or sparse annotation would make every class look small.
        """
        valid = torch.ones_like(one_hot[:, :1]) if valid is None else valid
        voxels = (one_hot * valid).sum([0, *range(2, one_hot.ndim)])
        sums = sum_over_ranks(torch.cat([voxels, valid.sum()[None]])).cpu().double()  # MPS has no float64
        self.sums[name] = self.memory * self.sums[name] + sums

    def shares(self, name: str) -> Tensor:
        """Return the share of voxels per channel, ``(K,)``, in [0, 1]; 0 before the first batch."""
        return self.sums[name][:-1] / self.sums[name][-1].clamp(min=1.0)

    def class_weights(self) -> Tensor:
        """Return 1 within the bounds, falling to 0 beyond, ``(K,)``, float32; 1 before anything was counted.

        A class at twice its upper bound has weight 1/2, one at half its lower bound too. The background follows the
        worst class: what a vanished class lost, the background takes.
        """
        labeled, unlabeled = self.shares(LABELED), self.shares(UNLABELED)
        if labeled.sum() == 0 or unlabeled.sum() == 0:
            return torch.ones_like(labeled, dtype=torch.float32)
        ratio = unlabeled / labeled.clamp(min=1e-9)
        weights = torch.minimum(self.factor / ratio.clamp(min=1e-9), self.factor * ratio).clamp(0, 1).float()
        if not self.labels.has_regions:
            weights[0] = weights[[k for k in range(1, len(weights)) if k not in self.left_out]].min()
        return weights

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums."""
        return dict(self.sums)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the sums."""
        if {name: len(value) for name, value in state.items()} != {n: len(v) for n, v in self.sums.items()}:
            raise ValueError("The counts are of another number of channels.")
        self.sums = {name: value.cpu() for name, value in state.items()}
