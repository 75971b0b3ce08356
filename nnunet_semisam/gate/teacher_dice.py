"""How far each class may speak in unlabeled terms: measured on labeled patches, never assumed from a step count.

A teacher that has not learned a class calls it background, and a student that believes it unlearns the class: a naive
Mean Teacher can end below plain nnU-Net. So a class has no name until the teacher finds it on labeled training patches;
until then it is part of the rest, with the background.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

SPEAKS = 0.5  # trust from which a class is named; below, it is part of the rest
SILENCED = -1e4  # logit of a class that is part of the rest: probability 0, but no infinity times 0 in a loss
MEMORY = 0.9  # share of the old counts kept per measurement: about ten measurements count
WIDTH = 0.1  # Dice from the threshold to full trust


def named_classes(class_trust: Tensor) -> Tensor:
    """Return the trust of the named classes, ``(K,)``; 0 for those that are part of the rest.

    Channel 0 is the rest: background and all classes without a name. "This is none of the named classes" is as sure as
    the least sure of them. All are 0 if no class has a name.

    Args:
        class_trust: How far each class may speak, ``(K,)``, in [0, 1]; the background's entry is not used.
    """
    named = torch.where(class_trust >= SPEAKS, class_trust, 0.0)
    named[0] = 0.0
    if named.max() > 0:
        named[0] = named[named > 0].min()
    return named


def merge_rest(logits: Tensor, target: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
    """Put all classes without a name into channel 0.

    A teacher that knows the left ventricle only can say where it is and where it is not, but not whether the rest is
    background. Taking its rest for background teaches the student to unlearn the others; leaving the rest out teaches
    it that everything may be left ventricle. So background and unnamed classes become one.

    Args:
        logits: The student's logits, ``(B, K, *S)``.
        target: Class probabilities, ``(B, K, *S)``.
        named: From :func:`named_classes`, ``(K,)``.

    Returns:
        Logits whose softmax gives the sum of all unnamed probabilities in channel 0 and nothing in the channels of
        unnamed classes, and the target in the same form; float32.
    """
    unnamed = named == 0
    if not unnamed.any():
        return logits, target
    rest = unnamed.clone()
    rest[0] = True
    logits, target = logits.float(), target.float()
    shape = (1, -1, *[1] * (logits.ndim - 2))
    merged_logits = logits.masked_fill(unnamed.view(shape), SILENCED)
    merged_target = target.masked_fill(unnamed.view(shape), 0.0)
    merged_logits = torch.cat([logits[:, rest].logsumexp(dim=1, keepdim=True), merged_logits[:, 1:]], dim=1)
    return merged_logits, torch.cat([target[:, rest].sum(dim=1, keepdim=True), merged_target[:, 1:]], dim=1)


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
