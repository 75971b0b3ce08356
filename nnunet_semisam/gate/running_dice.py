"""Running Dice per output channel, over the last few measurements."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_semisam.ranks import sum_over_ranks


class RunningDice:
    """Dice of predictions against a reference, with old measurements fading out.

    Used twice: the prompting network against the labels of labeled patches (``gate.dice`` is a bound on it), and
    student against target on unlabeled patches (their agreement estimates how well unseen cases are predicted).

    Args:
        heads: ``K``, the number of output channels.
        memory: Share of the old counts kept per measurement whose reference shows the channel, in [0, 1): with 0.9
            about ten of them count. A class that few batches show would else be judged by what they do not show.
    """

    def __init__(self, heads: int, memory: float) -> None:
        self.memory = memory
        self.overlap = torch.zeros(heads, dtype=torch.float64)
        self.size = torch.zeros(heads, dtype=torch.float64)

    @torch.no_grad()
    def measure(self, prediction: Tensor, reference: Tensor, valid: Tensor | None = None) -> None:
        """Count one batch; under DDP the batches of all ranks, so that every rank decides alike.

        Args:
            prediction: Hard prediction, one-hot or regions, ``(B, K, *S)``.
            reference: Label or target in the same form.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``; ``None`` counts every voxel.
        """
        valid = torch.ones_like(reference[:, :1]) if valid is None else valid
        axes = [0, *range(2, prediction.ndim)]
        overlap = (prediction * reference * valid).sum(axes)
        shown = (reference * valid).sum(axes)
        size = shown + (prediction * valid).sum(axes)
        overlap, size, shown = sum_over_ranks(torch.stack([overlap, size, shown])).cpu().double()  # MPS has no float64
        kept = torch.where(shown > 0, self.memory, 1.0)
        self.overlap = kept * self.overlap + overlap
        self.size = kept * self.size + size

    @property
    def measured(self) -> bool:
        """Return whether any channel was seen."""
        return bool(self.size.sum() > 0)

    def dice(self) -> Tensor:
        """Return the running Dice per channel, ``(K,)``, in [0, 1]; 0 where the channel was never seen."""
        return torch.where(self.size > 0, 2 * self.overlap / self.size.clamp(min=1e-9), 0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the counts."""
        return {"overlap": self.overlap, "size": self.size}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the counts."""
        if any(state[name].shape != self.size.shape for name in ("overlap", "size")):
            raise ValueError(f"The counts are of {len(state['size'])} channels, and there are {len(self.size)}.")
        self.overlap, self.size = state["overlap"].cpu(), state["size"].cpu()
