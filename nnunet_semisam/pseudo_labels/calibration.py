"""Measure on labeled cases whether the SAM helps, class by class, and switch it off where it does not.

A network knows its training cases by heart, so a SAM could only spoil its opinion there. Before SAM is asked, the
network's probabilities are therefore warped by a smooth random field, as strongly as it takes for their Dice to fall to
what the network reaches on cases it has not seen. That imitates borders in the wrong place. It does not imitate parts
that are missed altogether or invented, so that the measured gain is about borders: an estimate, not a promise.

Choosing what SAM may do by its measured Dice gain on labeled cases: SAM Carries the Burden,
https://arxiv.org/abs/2411.12602.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_semisam.generalists.prediction import SAMOpinion
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import SAMWeights, fused_claims, speaking
from nnunet_semisam.pseudo_labels.summary import dice

WEIGHTS = (0.0, 0.25, 0.5, 1.0)  # shares of the SAM that are measured; 0 is the network alone, 1 the SAM alone
# Shares that may be chosen. Never more than the network's: warped borders flatter SAM, and on real errors of a network
# equal shares were best (docs/results.md).
CHOICES = 3
MIN_GAIN = 0.005  # Dice: a smaller gain on a handful of cases is as good as none
WARP_SMOOTHNESS = 0.125  # width of the Gaussian that smooths the field, as a share of the foreground's extent
BISECTIONS = 8  # the Dice is met to within a 256th of its range


@dataclass(frozen=True)
class ClassCalibration:
    """What was measured for one class or region, with SAM asked about this one only.

    Attributes:
        name: The label, or the labels of the region.
        weight: Share of the SAM in the fused probability; 0: switched off.
        disagreement: Accuracy of the fused label where network and SAM disagree, in [0, 1]: where it says "in the
            class", and where it says "not in the class".
        dice_network: Mean Dice of the degraded network; ``None`` if no labeled case shows the class.
        dice_sam: Mean Dice of SAM's answers (of the network where SAM was not asked).
        dice_fused: Mean Dice of the fusion with ``weight``.
        cases: How many labeled cases count.
        reason: Why the class is on or off, in words.
    """

    name: str
    weight: float
    disagreement: tuple[float, float]
    dice_network: float | None
    dice_sam: float | None
    dice_fused: float | None
    cases: int
    reason: str


@dataclass(frozen=True)
class CalibrationTable:
    """The result of a calibration, one entry per foreground class or region."""

    classes: tuple[ClassCalibration, ...]

    @property
    def weights(self) -> SAMWeights:
        """Return how far the SAM may speak from now on."""
        return SAMWeights(tuple(c.weight for c in self.classes), tuple(c.disagreement for c in self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for json."""
        return dataclasses.asdict(self)

    def log_text(self) -> str:
        """Return a line for each class that says whether SAM may speak, and why."""
        lines = ["SAM calibration on labeled cases:"]
        for c in self.classes:
            state = f"on with weight {c.weight}" if c.weight > 0 else "OFF"
            lines.append(f"  class {c.name}: SAM is {state}: {c.reason}")
        return "\n".join(lines)


class Calibration:
    """Collects measurements case by case; :meth:`table` concludes.

    Each class is tried alone: SAM speaks about it with every weight, the network about all others. What a class wins at
    the cost of the others is then no gain.

    Args:
        layout: Which channel means what.
    """

    def __init__(self, layout: Labels) -> None:
        self.layout = layout
        self._dice: list[list[np.ndarray]] = [[] for _ in range(layout.channels)]  # per class and case: (F, weights)
        self._disputed = np.zeros((layout.channels, len(WEIGHTS), 2))  # the fused label says yes, and no
        self._right = np.zeros_like(self._disputed)

    def add(self, network: np.ndarray, opinion: SAMOpinion, truth: np.ndarray) -> None:
        """Measure one labeled case.

        Args:
            network: The degraded opinion that SAM was asked with, ``(K, *S)``.
            opinion: What SAM said, arrays ``(F, *S)``.
            truth: Label map, ``(*S)``; voxels of an ignore label do not count.
        """
        channels, own = self.layout.channels, self.layout.foreground(network)
        valid = truth <= max(self.layout.foreground_labels)  # nnU-Net's ignore label is the highest number
        real = [self.layout.members(truth, f) & valid for f in range(channels)]
        for f in range(channels):
            labels = [self.layout.label_map(fused_claims(own, opinion, _only(f, w, channels))) for w in WEIGHTS]
            if real[f].any():
                self._dice[f].append(self._all_dice(labels, real, valid))
            masks = [self.layout.members(label, f) for label in labels]
            heard = valid & speaking(opinion, f, _only(f, 1.0, channels))
            disputed = heard & (masks[0] != (opinion.probs[f] > 0.5))
            for w, mask in enumerate(masks):
                for i, says in enumerate((disputed & mask, disputed & ~mask)):
                    self._disputed[f, w, i] += says.sum()
                    self._right[f, w, i] += (says & (real[f] == mask)).sum()

    def _all_dice(self, labels: Sequence[np.ndarray], real: Sequence[np.ndarray], valid: np.ndarray) -> np.ndarray:
        """Return the Dice of every class that the case shows (NaN: not shown) for each label map, ``(F, weights)``."""
        found = np.full((len(real), len(labels)), np.nan)
        for f, wanted in enumerate(real):
            if wanted.any():
                found[f] = [dice(self.layout.members(label, f) & valid, wanted) for label in labels]
        return found

    def table(self) -> CalibrationTable:
        """Return the best weight of each class; 0 where none wins 0.005 Dice."""
        return CalibrationTable(tuple(self._conclude(f) for f in range(self.layout.channels)))

    def _conclude(self, f: int) -> ClassCalibration:
        name, cases = self.layout.names[f], len(self._dice[f])
        if not cases:
            return ClassCalibration(name, 0.0, (0.0, 0.0), None, None, None, 0, "no labeled case shows it")
        by_case = np.stack(self._dice[f])
        own = by_case[:, f].mean(axis=0)
        gain = np.nansum(by_case - by_case[..., :1], axis=1).mean(axis=0)  # of this class, and of its neighbours
        best = int(gain[:CHOICES].argmax())  # the smallest weight among equals
        best = best if min(gain[best], own[best] - own[0]) >= MIN_GAIN else 0
        right = self._right[f, best] / np.maximum(1, self._disputed[f, best])
        verdict = "SAM helps" if best else "SAM does not help"
        return ClassCalibration(
            name=name,
            weight=WEIGHTS[best],
            disagreement=(float(right[0]), float(right[1])) if best else (0.0, 0.0),
            dice_network=float(own[0]),
            dice_sam=float(own[-1]),
            dice_fused=float(own[best]),
            cases=cases,
            reason=f"{verdict}: Dice {own[0]:.3f} (network), {own[-1]:.3f} (SAM), {own[best]:.3f} (chosen fusion) "
            f"over {cases} cases",
        )


def _only(f: int, weight: float, channels: int) -> SAMWeights:
    """Return weights that let the SAM speak about one channel only."""
    return SAMWeights(tuple(weight if i == f else 0.0 for i in range(channels)), ((0.0, 0.0),) * channels)


def degrade(
    network: np.ndarray,
    truth: np.ndarray,
    layout: Labels,
    expected_dice: float,
    spacing: Sequence[float],
    seed_text: str,
) -> np.ndarray:
    """Warp the network's opinion until its mean foreground Dice is what it reaches on unseen cases.

    Args:
        network: Probabilities, ``(K, *S)``.
        truth: Label map, ``(*S)``.
        layout: Which channel means what.
        expected_dice: Mean Dice over foreground classes on unseen cases, in [0, 1].
        spacing: Voxel size along ``*S`` in mm: the warp is as strong in mm along every axis.
        seed_text: Names the random field: same text, same field.

    Returns:
        ``(K, *S)``; ``network`` itself if it is no better than expected already, or if there is nothing to warp.
    """
    crop = _foreground_window(truth, layout)
    if crop is None or _mean_dice(layout.label_map(layout.foreground(network)), truth, layout) <= expected_dice:
        return network
    label, real = layout.label_map(layout.foreground(network))[crop], truth[crop]
    field = _unit_field(label.shape, spacing, seed_text)
    low, high = 0.0, 0.5 * max(s * mm for s, mm in zip(label.shape, spacing, strict=True))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_good = _mean_dice(_warp(label, middle * field, order=0), real, layout) > expected_dice
        low, high = (middle, high) if too_good else (low, middle)
    warped = network.copy()
    for channel in warped:
        channel[crop] = _warp(channel[crop], high * field, order=1)
    return warped


def _foreground_window(truth: np.ndarray, layout: Labels) -> tuple[slice, ...] | None:
    """Return the box around all foreground, half as large again on each side; ``None`` without foreground."""
    places = np.argwhere((truth > 0) & (truth <= max(layout.foreground_labels)))
    if len(places) == 0:
        return None
    first, last = places.min(axis=0), places.max(axis=0) + 1
    margin = (last - first) // 2 + 1
    return tuple(
        slice(max(0, a), min(size, b)) for a, b, size in zip(first - margin, last + margin, truth.shape, strict=True)
    )


def _unit_field(shape: Sequence[int], spacing: Sequence[float], seed_text: str) -> np.ndarray:
    """Return a smooth random displacement, ``(axes, *S)``, in voxels; its root mean square is 1 mm along each axis."""
    rng = np.random.default_rng(zlib.crc32(seed_text.encode()))
    extent = WARP_SMOOTHNESS * max(s * mm for s, mm in zip(shape, spacing, strict=True)) / 2  # the window is twice
    field = []
    for mm in spacing:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), [extent / each for each in spacing])
        field.append(noise / max(1e-12, float(np.sqrt(np.mean(noise**2)))) / mm)
    return np.stack(field)


def _warp(array: np.ndarray, displacement: np.ndarray, order: int) -> np.ndarray:
    grid = np.indices(array.shape) + displacement
    return ndimage.map_coordinates(array, grid, order=order, mode="nearest", prefilter=False)


def _mean_dice(label: np.ndarray, truth: np.ndarray, layout: Labels) -> float:
    """Return the mean Dice over the classes that ``truth`` shows."""
    found = []
    for f in range(layout.channels):
        real = layout.members(truth, f)
        if real.any():
            found.append(dice(layout.members(label, f), real))
    return float(np.mean(found)) if found else 0.0
