"""How much a generalist contributes, class by class: measured by the calibration, used by ensemble and fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNMEASURED_WEIGHT = 0.5


@dataclass(frozen=True)
class GeneralistWeights:
    """Weights of one generalist (or of an ensemble), one entry per foreground channel.

    Attributes:
        weight: Share of the generalist in the fused probability where it predicted, in [0, 1]; 0: inactive.
        disagreement: Accuracy of the fused label where specialist and generalist disagree, in [0, 1], where it says "in
            the class" and where it says "not in the class"; 0 if not measured.
        temperature: What divides the logits of the generalist's probabilities; empty: 1 for all.
    """

    weight: tuple[float, ...]
    disagreement: tuple[tuple[float, float], ...]
    temperature: tuple[float, ...] = ()

    @classmethod
    def unmeasured(cls, channels: int) -> GeneralistWeights:
        """Return equal shares for both, and no confidence where they disagree: the start, before any calibration."""
        return cls((UNMEASURED_WEIGHT,) * channels, ((0.0, 0.0),) * channels)

    @property
    def active(self) -> bool:
        """Return whether the generalist contributes to any class."""
        return max(self.weight) > 0


def combined(members: Sequence[GeneralistWeights]) -> GeneralistWeights:
    """Return the weights of an ensemble: the largest weight per class, and the accuracy averaged by weight.

    Temperatures belong to the members, whose probabilities they change; an ensemble of several has none.

    Example:
        >>> first = GeneralistWeights((0.5, 0.0), ((0.9, 0.5), (0.0, 0.0)))
        >>> second = GeneralistWeights((0.5, 0.0), ((0.7, 0.5), (0.0, 0.0)))
        >>> combined([first, second])
        GeneralistWeights(weight=(0.5, 0.0), disagreement=((0.8, 0.5), (0.0, 0.0)), temperature=())
    """
    if len(members) == 1:
        return members[0]
    channels = len(members[0].weight)
    return GeneralistWeights(
        tuple(max(member.weight[f] for member in members) for f in range(channels)),
        tuple(_accuracy(members, f) for f in range(channels)),
    )


def _accuracy(members: Sequence[GeneralistWeights], f: int) -> tuple[float, float]:
    total = sum(member.weight[f] for member in members)
    if total == 0:
        return 0.0, 0.0
    inside = sum(member.weight[f] * member.disagreement[f][0] for member in members) / total
    outside = sum(member.weight[f] * member.disagreement[f][1] for member in members) / total
    return inside, outside
