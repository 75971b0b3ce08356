"""Fuse the predictions of specialist and generalist into one label map and a confidence per voxel.

Confidence reads as "how likely is this label to be right". In one foreground channel it is

============================================  ==========================================================================
both predict, and agree by ``a``              ``(a + (1 - a) * d) * r`` times the certainty of the fused probability:
                                              ``d`` measured accuracy where they disagree, ``r`` the generalist's
                                              reliability
generalist not prompted, specialist says no   the specialist's certainty ``|2 p - 1|``
only the specialist: the generalist is        ``second_opinion`` times the certainty, but 0 where an inactive
inactive in the class, or was not prompted    generalist says otherwise; ``network_only`` times the certainty, by
(tiny component)                              default below the threshold, if there is no second opinion
the generalist's mask was rejected            ``rejected`` times the certainty
a spurious component (``connectivity.py``)    it becomes background, with confidence ``spurious_background``, or 0 if
                                              too few patients are labeled to tell
============================================  ==========================================================================

With a second opinion (``second_opinion.py``), certainty is multiplied by how alike both opinions are in the voxel, and
everything by the Dice of both for this class in this case. Then it is bounded by the class's area prior. A voxel of a
class has that class's confidence; a voxel of the background is only as sure as the least sure of all channels, and so
is every voxel of overlapping regions. How well the specialist knows a class changes faster than labels are made: the
class gate adds that weight where they are used.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.connectivity import ConnectivityPrior
from nnunet_semisam.pseudo_labels.second_opinion import SecondOpinion
from nnunet_semisam.settings import SettingsBlock, setting, settings_block


@settings_block("fusion", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class FusionSettings(SettingsBlock):
    """Confidence of a pseudo-label's voxels."""

    network_only: float = setting(
        0.4,
        "Without `sam.mirror`: factor on the specialist's certainty where the generalist is inactive or not prompted.",
        low=0,
        high=1,
    )
    second_opinion: float = setting(
        0.7,
        """With `sam.mirror`: factor on the specialist's certainty where the generalist is inactive or not prompted, and
        the prediction of the mirrored image is the second opinion.""",
        low=0,
        high=1,
        source="docs/results.md, Reliability of confidence",
    )
    rejected: float = setting(
        0.2, "Factor on the specialist's certainty where the generalist's mask was rejected.", low=0, high=1
    )
    spurious_background: float = setting(
        0.75,
        "Confidence that a spurious component is background.",
        low=0,
        high=1,
        source="docs/results.md: on ACDC 75 to 94 % of such voxels were",
    )
    area_factor: float = setting(
        2.0,
        """A class that takes more than this times its largest share of a labeled case's voxels gets no confidence; one
        that takes less than its smallest share divided by it lowers the confidence of the background in proportion
        (of regions: of all voxels outside it).""",
        low=1,
    )


@dataclass(frozen=True)
class CasePriors:
    """What labeled cases show.

    Attributes:
        area_bounds: Smallest and largest share of a case's voxels per foreground channel; ``None`` if not known.
        connectivity: Which structures are connected; ``None`` looks for no spurious components.
    """

    area_bounds: Sequence[tuple[float, float]] | None = None
    connectivity: ConnectivityPrior | None = None

    def spurious(self, label: np.ndarray, labels: Labels) -> np.ndarray:
        """Return the spurious components of a label map ``(Z, Y, X)``, bool."""
        if self.connectivity is None:
            return np.zeros(label.shape, dtype=bool)
        largest = self.largest(label.size) or [np.inf] * labels.channels
        return self.connectivity.spurious(label, labels, largest)

    def largest(self, voxels: int) -> list[float] | None:
        """Return the voxels that each foreground channel takes at most of a case; ``None`` if that is not known."""
        return None if self.area_bounds is None else [high * voxels for _, high in self.area_bounds]


@dataclass(frozen=True)
class FusedLabel:
    """A pseudo-label.

    Attributes:
        label: Label map, ``(*S)``, int16; never the ignore label.
        confidence: ``(*S)``, float32, in [0, 1].
    """

    label: np.ndarray
    confidence: np.ndarray


def fuse(
    specialist: np.ndarray,
    prediction: CasePrediction,
    labels: Labels,
    weights: GeneralistWeights,
    settings: FusionSettings,
    priors: CasePriors,
    second: SecondOpinion | None = None,
) -> FusedLabel:
    """Fuse the two predictions of one case.

    Args:
        specialist: Its probabilities, ``(K, *S)``, in [0, 1].
        prediction: The generalist's, with arrays ``(F, *S)``.
        labels: What the channels mean.
        weights: How much the generalist contributes.
        settings: The block ``fusion``.
        priors: What labeled cases show.
        second: A second opinion on the specialist's prediction; ``None``: there is none.

    Raises:
        ValueError: If the specialist's probabilities are not finite, or the numbers per channel do not fit.

    Example:
        One voxel, one class: both say 0.9 and agree, so the label is 1 with the certainty of 0.9.

        >>> labels = Labels.of_classes(2)
        >>> half = GeneralistWeights.unmeasured(1)
        >>> ones, no = np.ones((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=bool)
        >>> prediction = CasePrediction(0.9 * ones, ones, ~no, no)
        >>> specialist = np.array([[0.1], [0.9]], dtype=np.float32)
        >>> fused = fuse(specialist, prediction, labels, half, FusionSettings(), CasePriors())
        >>> fused.label.tolist(), round(float(fused.confidence[0]), 3)
        ([1], 0.8)
    """
    _check(specialist, labels, weights, priors.area_bounds)
    own = labels.foreground(specialist).astype(np.float32)
    probs = fused_probs(own, prediction, weights)
    label = labels.label_map(probs)
    spurious = priors.spurious(label, labels)
    if priors.connectivity is not None:
        label = np.where(spurious, 0, label).astype(label.dtype)
    per_channel = _confidence(own, probs, label, prediction, labels, weights, settings, second)
    per_channel = _apply_area_prior(per_channel, label, labels, priors.area_bounds, settings.area_factor)
    confidence = _per_voxel(per_channel, label, labels, probs)
    certain = priors.connectivity is not None and priors.connectivity.certain
    of_spurious = np.float32(settings.spurious_background if certain else 0.0)
    return FusedLabel(label, np.where(spurious, of_spurious, confidence))


def _check(
    specialist: np.ndarray,
    labels: Labels,
    weights: GeneralistWeights,
    area_bounds: Sequence[tuple[float, float]] | None,
) -> None:
    if not np.isfinite(specialist).all():
        raise ValueError("The network's probabilities hold NaN or infinity; has the training diverged?")
    bounds = labels.channels if area_bounds is None else len(area_bounds)
    for name, got, wanted in (
        ("channels of the specialist", len(specialist), labels.heads),
        ("weights", len(weights.weight), labels.channels),
        ("area_bounds", bounds, labels.channels),
    ):
        if got != wanted:
            raise ValueError(f"{name}: expected {wanted} entries for the labels {labels.names}, got {got}.")


def fused_probs(own: np.ndarray, prediction: CasePrediction, weights: GeneralistWeights) -> np.ndarray:
    """Return the fused probabilities, ``(F, *S)``, of the specialist's foreground channels ``own`` ``(F, *S)``.

    Where the generalist contributes it is ``own + weight * (generalist - own)``, elsewhere ``own``. Of an ensemble the
    weight is that of the members which count in the voxel. Classes may sum to more than 1.
    """
    channels = range(len(weights.weight))
    shares = [prediction.weights_at(f, weights)[0] * contributes(prediction, f, weights) for f in channels]
    return own + np.stack(shares).astype(np.float32) * (prediction.probs - own)


def contributes(prediction: CasePrediction, f: int, weights: GeneralistWeights) -> np.ndarray:
    """Return where the generalist's prediction counts for one channel, ``(*S)``, bool."""
    return prediction.predicted[f] & ~prediction.rejected[f] & (weights.weight[f] > 0)


def _confidence(
    own: np.ndarray,
    probs: np.ndarray,
    label: np.ndarray,
    prediction: CasePrediction,
    labels: Labels,
    weights: GeneralistWeights,
    settings: FusionSettings,
    second: SecondOpinion | None,
) -> np.ndarray:
    """Return the confidence in "this voxel is, or is not, in channel f", ``(F, *S)``."""
    confidence = np.empty_like(own)
    for f in range(labels.channels):
        member = labels.members(label, f)
        agreement = 1 - np.abs(own[f] - prediction.probs[f])
        _, inside, outside = prediction.weights_at(f, weights)
        accuracy = np.where(member, inside, outside)
        certainty = np.abs(2 * np.clip(probs[f], 0, 1) - 1)  # two coin flips agree, and are none the wiser
        both = (agreement + (1 - agreement) * accuracy) * prediction.reliability[f] * certainty
        alone = _alone(f, own, member, prediction, weights, settings, second)
        confidence[f] = np.where(contributes(prediction, f, weights), both, alone)
        if second is not None:
            confidence[f] *= second.dice[f]
        if labels.has_regions:  # nnU-Net's order of regions overrules this channel's own claim: nobody knows
            confidence[f][(probs[f] > 0.5) != member] = 0.0
    return confidence


def _alone(
    f: int,
    own: np.ndarray,
    member: np.ndarray,
    prediction: CasePrediction,
    weights: GeneralistWeights,
    settings: FusionSettings,
    second: SecondOpinion | None,
) -> np.ndarray:
    """Return the confidence of one channel where the generalist does not count, ``(*S)``."""
    certainty = np.abs(2 * own[f] - 1)
    if second is None:
        alone = np.where(member | prediction.predicted[f], settings.network_only, 1.0) * certainty
        return np.where(prediction.rejected[f], settings.rejected * certainty, alone)
    active = weights.weight[f] > 0
    alone = np.where(member | (prediction.predicted[f] & active), settings.second_opinion, 1.0)
    alone = alone * certainty * second.alike[f]
    if active:
        return np.where(prediction.rejected[f], settings.rejected * certainty, alone)
    says_otherwise = prediction.predicted[f] & ~prediction.rejected[f] & ((prediction.probs[f] > 0.5) != member)
    return np.where(says_otherwise, 0.0, alone)


def _apply_area_prior(
    confidence: np.ndarray,
    label: np.ndarray,
    labels: Labels,
    area_bounds: Sequence[tuple[float, float]] | None,
    area_factor: float,
) -> np.ndarray:
    """Lower the confidence ``(F, *S)`` of a class that takes too much; of the background, where one takes too little.

    A class that is too large has flooded into something else, and most of it is wrong: on ACDC, a tenth was right
    where more than twice the largest share was taken (docs/results.md). One that is too small has most
    likely lost its voxels to the background; voxels of other classes keep theirs.
    """
    for f, (low, high) in enumerate(area_bounds or ()):
        member = labels.members(label, f)
        share = float(member.mean())
        if share > high * area_factor:
            confidence[f][member] = 0.0
        elif share < low / area_factor:
            confidence[f][~member] *= share / (low / area_factor)
    return confidence


def _per_voxel(confidence: np.ndarray, label: np.ndarray, labels: Labels, probs: np.ndarray) -> np.ndarray:
    """Return one confidence per voxel, ``(*S)``, float32, from that per channel ``(F, *S)``."""
    merged = confidence.min(axis=0)
    if not labels.has_regions:
        for f in range(labels.channels):
            merged = np.where(labels.members(label, f), confidence[f], merged)
        merged = merged * (1 - np.clip(probs.sum(axis=0) - 1, 0, 1))  # two classes cannot have one voxel
    return np.clip(merged, 0, 1).astype(np.float32)
