"""Two witnesses, one label: fuse the opinions of network and SAM into a label map and how far to trust each voxel.

Trust reads as "how likely is this label to be right". In one foreground channel it is

========================================  ==============================================================================
both witnesses, they agree by ``a``       ``(a + (1 - a) * d) * r``: ``d`` measured accuracy where they disagree, ``r``
                                          the SAM's reliability (several readings of the prompt, its own quality)
SAM not asked, network says no            the network's certainty ``|2 p - 1|``
only the network: SAM is off for the      ``0.4`` times the certainty: below the default threshold of 0.5, a lone
class, or not asked (tiny component)      witness never passes
SAM's answer collapsed                    ``0.2`` times the certainty
an island of what is one piece (see       it becomes background, with trust ``0.75``
``pieces.py``)
========================================  ==============================================================================

and then bounded by the class's area prior. A voxel of a class has that class's trust; a voxel of the background is
only as sure as the least sure of all channels, and so is every voxel of overlapping regions. How mature a class is
changes faster than labels are made, so that weight is added where they are used, see ``session.py``.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_semisam.generalists.prediction import SAMOpinion
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior

ONE_WITNESS = 0.4
COLLAPSED = 0.2
STRAY = 0.75  # trust that an island is background: on ACDC 75 to 94 % of such voxels were (docs/results.md)


@dataclass(frozen=True)
class SAMWeights:
    """How far the SAM may speak, per foreground channel.

    Attributes:
        weight: Share of the SAM in the fused probability where it answered, in [0, 1]; 0 switches the class off.
        disagreement: Accuracy of the fused label where network and SAM disagree, in [0, 1], where it says "in the
            class" and where it says "not in the class"; 0 if not measured.
    """

    weight: tuple[float, ...]
    disagreement: tuple[tuple[float, float], ...]

    @classmethod
    def unmeasured(cls, channels: int) -> SAMWeights:
        """Return equal say for both, and no trust where they disagree: what is fair before any calibration."""
        return cls((0.5,) * channels, ((0.0, 0.0),) * channels)


@dataclass(frozen=True)
class FusedLabel:
    """A pseudo-label.

    Attributes:
        label: Label map, ``(*S)``, int16; never the ignore label.
        trust: ``(*S)``, float32, in [0, 1].
    """

    label: np.ndarray
    trust: np.ndarray


def fuse(
    network: np.ndarray,
    opinion: SAMOpinion,
    layout: Labels,
    weights: SAMWeights,
    area_bounds: Sequence[tuple[float, float]] | None = None,
    area_factor: float = 2.0,
    pieces: PiecePrior | None = None,
) -> FusedLabel:
    """Fuse the two opinions on one case.

    Args:
        network: The network's probabilities, ``(K, *S)``, in [0, 1].
        opinion: The SAM's, with arrays ``(F, *S)``.
        layout: Which channel means what.
        weights: How far the SAM may speak.
        area_bounds: Smallest and largest share of a case's voxels per foreground channel among labeled cases.
        area_factor: A class that claims more than this times the largest share is not believed; one that claims
            less than the smallest share divided by it costs everything else trust in proportion.
        pieces: Which structures are one piece in labeled cases; ``None`` looks for no islands.

    Raises:
        ValueError: If the network's probabilities are not finite, or the numbers per channel do not fit.
    """
    _check(network, layout, weights, area_bounds)
    own = layout.foreground(network).astype(np.float32)
    claims = fused_claims(own, opinion, weights)
    label = layout.label_map(claims)
    stray = np.zeros(label.shape, dtype=bool)
    if pieces is not None:
        stray = pieces.stray(label, layout, most_voxels(layout, area_bounds, label.size))
        label = np.where(stray, 0, label).astype(label.dtype)
    trust = _trust(own, claims, label, opinion, layout, weights)
    trust = _apply_area_prior(trust, label, layout, area_bounds, area_factor)
    return FusedLabel(label, np.where(stray, np.float32(STRAY), _per_voxel(trust, label, layout, claims)))


def most_voxels(layout: Labels, area_bounds: Sequence[tuple[float, float]] | None, size: int) -> list[float]:
    """Return how many of ``size`` voxels each foreground channel has at most in labeled cases; infinity if unknown."""
    if area_bounds is None:
        return [np.inf] * layout.channels
    return [high * size for _, high in area_bounds]


def _check(
    network: np.ndarray,
    layout: Labels,
    weights: SAMWeights,
    area_bounds: Sequence[tuple[float, float]] | None,
) -> None:
    if not np.isfinite(network).all():
        raise ValueError("The network's probabilities hold NaN or infinity; has the training diverged?")
    outputs = layout.channels + (not layout.has_regions)
    for name, got, wanted in (
        ("channels of network", len(network), outputs),
        ("weights", len(weights.weight), layout.channels),
        ("area_bounds", layout.channels if area_bounds is None else len(area_bounds), layout.channels),
    ):
        if got != wanted:
            raise ValueError(f"{name}: expected {wanted} entries for the labels {layout.names}, got {got}.")


def fused_claims(own: np.ndarray, opinion: SAMOpinion, weights: SAMWeights) -> np.ndarray:
    """Return the fused probabilities, ``(F, *S)``, of the network's foreground channels ``own`` ``(F, *S)``.

    Where the SAM speaks it is ``own + weight * (sam - own)``, elsewhere the network's own. Classes may claim more than
    1 together.
    """
    shares = [weight * speaking(opinion, f, weights) for f, weight in enumerate(weights.weight)]
    return own + np.stack(shares).astype(np.float32) * (opinion.probs - own)


def speaking(opinion: SAMOpinion, f: int, weights: SAMWeights) -> np.ndarray:
    """Return where the SAM's answer counts for one channel, ``(*S)``, bool."""
    return opinion.asked[f] & ~opinion.collapsed[f] & (weights.weight[f] > 0)


def _trust(
    own: np.ndarray,
    claims: np.ndarray,
    label: np.ndarray,
    opinion: SAMOpinion,
    layout: Labels,
    weights: SAMWeights,
) -> np.ndarray:
    """Return the trust in "this voxel is, or is not, in channel f", ``(F, *S)``."""
    trust = np.empty_like(own)
    for f in range(layout.channels):
        member = layout.members(label, f)
        certainty = np.abs(2 * own[f] - 1)
        agreement = 1 - np.abs(own[f] - opinion.probs[f])
        accuracy = np.where(member, *weights.disagreement[f])
        both = (agreement + (1 - agreement) * accuracy) * opinion.reliability[f]
        alone = np.where(member | opinion.asked[f], ONE_WITNESS, 1.0) * certainty
        trust[f] = np.where(speaking(opinion, f, weights), both, alone)
        trust[f] = np.where(opinion.collapsed[f], COLLAPSED * certainty, trust[f])
        if layout.has_regions:  # nnU-Net's order of regions overrules this channel's own claim: nobody knows
            trust[f][(claims[f] > 0.5) != member] = 0.0
    return trust


def _apply_area_prior(
    trust: np.ndarray,
    label: np.ndarray,
    layout: Labels,
    area_bounds: Sequence[tuple[float, float]] | None,
    area_factor: float,
) -> np.ndarray:
    """Take trust ``(F, *S)`` from a class that claims too much; from everything else, where one claims too little.

    A class that is too large has flooded into something else, and most of it is wrong: on ACDC, a tenth was right
    where more than twice the largest share was claimed (docs/results.md). One that is too small must have lost its
    voxels to what is called something else by now.
    """
    for f, (low, high) in enumerate(area_bounds or ()):
        member = layout.members(label, f)
        share = float(member.mean())
        if share > high * area_factor:
            trust[f][member] = 0.0
        elif share < low / area_factor:
            trust[f][~member] *= share / (low / area_factor)
    return trust


def _per_voxel(
    trust: np.ndarray,
    label: np.ndarray,
    layout: Labels,
    claims: np.ndarray,
) -> np.ndarray:
    """Return one trust per voxel, ``(*S)``, float32, from the trust per channel ``(F, *S)``."""
    combined = trust.min(axis=0)
    if not layout.has_regions:
        for f in range(layout.channels):
            combined = np.where(layout.members(label, f), trust[f], combined)
        combined = combined * (1 - np.clip(claims.sum(axis=0) - 1, 0, 1))  # two classes cannot own one voxel
    return np.clip(combined, 0, 1).astype(np.float32)
