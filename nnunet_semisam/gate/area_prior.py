"""How much of the image each class may take: the shares on labeled patches bound those of targets on unlabeled ones.

The class gate measures the prompting network on cases it was trained on. Whether it still finds a class on unlabeled
cases no label can tell, but the area can: a class that shrinks to nothing there, or floods the image, is wrong.

A class that is in every tenth patch has another share in every fifty patches, however good the network is. So shares
come with their standard error, and a class is only outside the bounds if it is so by more than that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nnunet_semisam.labels import Labels
from nnunet_semisam.ranks import sum_over_ranks

LABELED, UNLABELED = "labeled", "unlabeled"
PARTS = ("voxels", "valid", "products")  # of the counts, in checkpoints
STANDARD_ERRORS = 1.5  # by which a share must be out of bounds: with 1.0 a perfect network is, in 2 to 5 % of all steps


@dataclass
class PatchShares:
    """Share of voxels per channel over patches, each of them one draw.

    Attributes:
        heads: ``K``.
        memory: Share of the old counts kept per batch, in (0, 1]; 1 keeps all.
        voxels: Sum over patches of the voxels of a channel, ``(K,)``.
        valid: Sum over patches of the voxels that were annotated, ``(1,)``.
        products: Sums over patches of squares and products, ``(2 K + 1,)``: voxels x voxels, voxels x valid,
            valid x valid; they fade twice as fast.
    """

    heads: int
    memory: float
    voxels: Tensor = field(init=False)
    valid: Tensor = field(init=False)
    products: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.voxels, self.valid = torch.zeros(self.heads, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        self.products = torch.zeros(2 * self.heads + 1, dtype=torch.float64)

    def count(self, voxels: Tensor, valid: Tensor, of_all_ranks: bool = False) -> None:
        """Add patches.

        Args:
            voxels: Voxels of each channel in each patch, ``(B, K)``.
            valid: Voxels that count in each patch, ``(B,)``.
            of_all_ranks: Whether all processes hold the same patches; else those of all are added.
        """
        valid = valid[:, None]
        each = torch.cat([voxels, valid, voxels * voxels, voxels * valid, valid * valid], dim=1).sum(dim=0)
        sums = (each if of_all_ranks else sum_over_ranks(each)).cpu().double()  # MPS has no float64
        self.voxels = self.memory * self.voxels + sums[: self.heads]
        self.valid = self.memory * self.valid + sums[self.heads : self.heads + 1]
        self.products = self.memory**2 * self.products + sums[self.heads + 1 :]

    def share(self) -> Tensor:
        """Return the share of voxels per channel, ``(K,)``, in [0, 1]; 0 before the first batch."""
        return self.voxels / self.valid.clamp(min=1.0)

    def patches(self) -> float:
        """Return how many equal patches would say as much."""
        return float(self.valid**2 / self.products[-1:].clamp(min=1e-9))

    def variance(self) -> Tensor:
        """Return the variance of the share from patch to patch, ``(K,)``; infinite with one patch or none."""
        share, patches = self.share(), self.patches()
        if patches < 1.5:
            return torch.full_like(share, torch.inf)
        squares, mixed, valid = self.products.split([self.heads, self.heads, 1])
        spread = (squares - 2 * share * mixed + share**2 * valid) / valid
        return spread.clamp(min=0) * patches / (patches - 1)


class AreaPrior:
    """Shares of voxels per output channel, of labels and of targets on unlabeled patches.

    Args:
        labels: What the output channels mean.
        factor: A class may take up to ``factor`` times its labeled share, and at least that share over ``factor``.
        memory: Share of the old counts of unlabeled patches kept per batch, in [0, 1): with 0.98 about fifty batches
            count. Counts of labels are all kept: labels do not change.

    Attributes:
        left_out: Channels that no labeled case shows: the background does not follow them.
        fair: Whether annotated voxels show each class as often as it occurs, as evenly spread slices do. Of scribbles
            or of middle slices they do not: then a class takes at least what is annotated as it, and at most that and
            all that is not annotated.
        labels_are_known: Whether labels were counted at the start, so that labeled patches are not; see
            :meth:`take_labels`.
    """

    def __init__(self, labels: Labels, factor: float, memory: float) -> None:
        self.labels, self.factor = labels, factor
        self.left_out: frozenset[int] = frozenset()
        self.fair, self.labels_are_known = True, False
        self.counts = {LABELED: PatchShares(labels.heads, 1.0), UNLABELED: PatchShares(labels.heads, memory)}

    @torch.no_grad()
    def count(self, name: str, one_hot: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            name: ``labeled`` labels or ``unlabeled`` targets.
            one_hot: Classes or regions, ``(B, K, *S)``.
            valid: 1 on voxels that count, else 0, ``(B, 1, *S)``; ``None`` counts every voxel.
        """
        if name == LABELED and self.labels_are_known:
            return
        valid = torch.ones_like(one_hot[:, :1]) if valid is None else valid
        voxels = (one_hot * valid).flatten(2).float().sum(dim=2)
        self.counts[name].count(voxels, valid.flatten(1).float().sum(dim=1))

    def take_labels(self, classes: Tensor, annotated: Tensor, inside: Tensor, size: int) -> None:
        """Count the labels of cases that are annotated in part once and for all, in place of labeled patches.

        nnU-Net centres the patches of such cases on annotated voxels, so that they lie elsewhere than unlabeled ones,
        and what they show beyond the border of an image counts as annotated background. Here windows of the labels that
        were drawn like unlabeled patches are counted, the same ones in all processes.

        Args:
            classes: Annotated voxels of each channel in each window, ``(N, K)``; nothing of what is outside.
            annotated: Annotated voxels of each window, ``(N,)``.
            inside: Voxels of each window that lie in the image, ``(N,)``.
            size: Voxels of a window. What is outside of the image is background, as it is in unlabeled patches.
        """
        if self.fair:  # what is not annotated is like what is
            shown = annotated > 0
            classes, annotated, inside = classes[shown], annotated[shown], inside[shown]
            classes = classes * (inside / annotated)[:, None]
        if not self.labels.has_regions:
            classes = torch.cat([classes[:, :1] + (size - inside)[:, None], classes[:, 1:]], dim=1)
        self.counts[LABELED] = PatchShares(self.labels.heads, 1.0)
        self.counts[LABELED].count(classes, torch.full_like(inside, size), of_all_ranks=True)
        self.labels_are_known = True

    def shares(self, name: str) -> Tensor:
        """Return the share of voxels per channel, ``(K,)``, in [0, 1]; 0 before the first batch."""
        return self.counts[name].share()

    def class_weights(self) -> Tensor:
        """Return 1 within the bounds, falling to 0 beyond, ``(K,)``, float32; 1 before anything was counted.

        A class at twice its upper bound has weight 1/2, one at half its lower bound too. The background follows the
        worst class: what a vanished class lost, the background takes.
        """
        labeled, unlabeled = self.shares(LABELED), self.shares(UNLABELED)
        if labeled.sum() == 0 or unlabeled.sum() == 0:
            return torch.ones_like(labeled, dtype=torch.float32)
        error = STANDARD_ERRORS * self._standard_error()
        least, most = (unlabeled - error).clamp(min=0), unlabeled + error
        too_large = self.factor * self._highest(labeled).clamp(min=1e-9) / least.clamp(min=1e-9)
        too_small = self.factor * most / labeled.clamp(min=1e-9)
        weights = torch.minimum(torch.where(least > 0, too_large, 1.0), too_small).clamp(0, 1).float()
        if not self.labels.has_regions:
            weights[0] = weights[[k for k in range(1, len(weights)) if k not in self.left_out]].min()
        return weights

    def _highest(self, labeled: Tensor) -> Tensor:
        """Return the largest share that each channel may have in the images the labels are of, ``(K,)``."""
        if self.fair:
            return labeled
        if self.labels.has_regions:  # how much of a region is not annotated is not counted
            return torch.ones_like(labeled)
        return labeled + (1 - labeled.sum()).clamp(min=0)

    def _standard_error(self) -> Tensor:
        """Return the standard error of the difference of both shares, ``(K,)``, if they are of the same images.

        A class that has vanished has no variance any more: where labels vary more, theirs counts.
        """
        labeled, unlabeled = self.counts[LABELED], self.counts[UNLABELED]
        of_labels = labeled.variance()
        of_targets = torch.maximum(unlabeled.variance(), of_labels)
        return (of_labels / max(labeled.patches(), 1.0) + of_targets / max(unlabeled.patches(), 1.0)).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums."""
        return {f"{name}_{part}": getattr(one, part) for name, one in self.counts.items() for part in PARTS}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the sums."""
        if {name: len(value) for name, value in state.items()} != {n: len(v) for n, v in self.state_dict().items()}:
            raise ValueError("The counts are of another number of channels.")
        for name, one in self.counts.items():
            for part in PARTS:
                setattr(one, part, state[f"{name}_{part}"].cpu())
