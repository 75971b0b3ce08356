"""Measure on labeled cases whether a generalist helps, class by class, and leave it out where it does not.

The specialist's prediction of a labeled case gets a simulated generalisation error first (``generalisation_error.py``).
Choosing what SAM may do by its measured Dice gain on labeled cases: SAM Carries the Burden,
https://arxiv.org/abs/2411.12602.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import dice
from nnunet_semisam.pseudo_labels.fusion import contributes, fused_probs
from nnunet_semisam.pseudo_labels.round_log import ClassRecord, record_from_json
from nnunet_semisam.settings import SettingsBlock, setting, settings_block

HALF = 0.5


@settings_block("calibration", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class CalibrationSettings(SettingsBlock):
    """How a generalist's weight in a class is chosen."""

    weights: tuple[float, ...] = setting(
        (0.25, 0.5),
        """Shares of the generalist in the fused probability that may be chosen, ascending. Never more than the
        specialist's: simulated errors flatter a SAM, and on real errors of a network equal shares were best.""",
        above=0,
        high=1,
        source="docs/results.md",
    )
    min_gain: float = setting(
        0.005, "Dice by which a generalist must help: a smaller gain on a handful of cases is as good as none.", low=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights or list(self.weights) != sorted(set(self.weights)):
            raise UserError(
                f"The setting weights must name at least one share, ascending, each once, got {list(self.weights)}. To "
                "train without generalists, set use_sam: false."
            )


@dataclass(frozen=True)
class CalibrationTable:
    """The result of a calibration.

    Attributes:
        generalists: Names of the generalists.
        classes: One entry per generalist and foreground class: all classes of the first, then of the second, ...
    """

    generalists: tuple[str, ...]
    classes: tuple[ClassRecord, ...]

    @property
    def weights(self) -> tuple[GeneralistWeights, ...]:
        """Return how much each generalist contributes from now on."""
        return tuple(self._weights_of(name) for name in self.generalists)

    def _weights_of(self, name: str) -> GeneralistWeights:
        mine = [entry for entry in self.classes if entry.generalist == name]
        return GeneralistWeights(tuple(entry.weight for entry in mine), tuple(entry.disagreement for entry in mine))

    @property
    def active(self) -> bool:
        """Return whether any generalist helps in any class."""
        return any(weights.active for weights in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for json and checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CalibrationTable:
        """Return what :meth:`to_dict` was called on."""
        classes = tuple(record_from_json(ClassRecord, entry) for entry in content["classes"])
        return cls(tuple(content["generalists"]), classes)

    def log_text(self, names: Mapping[str, str] | None = None) -> str:
        """Return a line for each generalist; the measurements are in the records of rounds.

        Args:
            names: What records call a class -> its name in ``dataset.json``.
        """
        names = names or {}
        lines = []
        for generalist in self.generalists:
            states = []
            for entry in self.classes:
                if entry.generalist == generalist:
                    state = f"weight {entry.weight:g}" if entry.weight > 0 else "inactive"
                    states.append(f"{names.get(entry.name, f'class {entry.name}')} {state}")
            lines.append(f"Calibration of {generalist}: {', '.join(states)}")
        return "\n".join(lines)


class Calibration:
    """Collects the measurements of one generalist case by case; :meth:`classes` concludes.

    Each class is tried alone: the generalist contributes to it with every weight, the specialist predicts all others.
    What a class wins at the cost of the others is then no gain.

    Args:
        labels: What the channels mean.
        generalist: Name of the generalist.
        settings: The block ``calibration``.
    """

    def __init__(self, labels: Labels, generalist: str, settings: CalibrationSettings | None = None) -> None:
        self.labels, self.generalist = labels, generalist
        self.settings = settings or CalibrationSettings()
        self._measured = (0.0, *self.settings.weights, 1.0)  # the specialist alone first, the generalist alone last
        self._dice: list[list[np.ndarray]] = [[] for _ in range(labels.channels)]  # per class and case: (F, weights)
        self._disputed = np.zeros((labels.channels, len(self._measured), 2))  # the fused label says yes, and no
        self._right = np.zeros_like(self._disputed)

    def add(self, specialist: np.ndarray, prediction: CasePrediction, label: np.ndarray) -> None:
        """Measure one labeled case.

        Args:
            specialist: Its prediction with simulated error, that the generalist was prompted with, ``(K, *S)``.
            prediction: The generalist's, arrays ``(F, *S)``.
            label: Label map, ``(*S)``; voxels of an ignore label do not count.
        """
        channels, own = self.labels.channels, self.labels.foreground(specialist)
        valid = label <= max(self.labels.foreground_labels)  # nnU-Net's ignore label is the highest number
        real = [self.labels.members(label, f) & valid for f in range(channels)]
        for f in range(channels):
            fused = [
                self.labels.label_map(fused_probs(own, prediction, _only(f, weight, channels)))
                for weight in self._measured
            ]
            if real[f].any():
                self._dice[f].append(self._all_dice(fused, real, valid))
            self._count_disputes(f, fused, prediction, real[f], valid)

    def _count_disputes(
        self, f: int, fused: Sequence[np.ndarray], prediction: CasePrediction, real: np.ndarray, valid: np.ndarray
    ) -> None:
        """Count where specialist and generalist disagree about a class, and where each fused label is right there."""
        masks = [self.labels.members(label, f) for label in fused]
        predicted = valid & contributes(prediction, f, _only(f, 1.0, self.labels.channels))
        disputed = predicted & (masks[0] != (prediction.probs[f] > 0.5))
        for w, mask in enumerate(masks):
            for i, says in enumerate((disputed & mask, disputed & ~mask)):
                self._disputed[f, w, i] += says.sum()
                self._right[f, w, i] += (says & (real == mask)).sum()

    def _all_dice(self, fused: Sequence[np.ndarray], real: Sequence[np.ndarray], valid: np.ndarray) -> np.ndarray:
        """Return the Dice of every class that the case shows (NaN: not shown) for each label map, ``(F, weights)``."""
        found = np.full((len(real), len(fused)), np.nan)
        for f, wanted in enumerate(real):
            if wanted.any():
                found[f] = [dice(self.labels.members(label, f) & valid, wanted) for label in fused]
        return found

    def classes(self) -> tuple[ClassRecord, ...]:
        """Return the best weight of each class; 0 where none wins enough."""
        return tuple(self._conclude(f) for f in range(self.labels.channels))

    def _conclude(self, f: int) -> ClassRecord:
        name, cases = self.labels.names[f], len(self._dice[f])
        if not cases:
            reason = "no labeled case shows it"
            return ClassRecord(name, self.generalist, 0.0, (0.0, 0.0), None, None, None, 0, reason)
        by_case = np.stack(self._dice[f])
        own = by_case[:, f].mean(axis=0)
        gains = np.nansum(by_case - by_case[..., :1], axis=1)  # of this class, and of its neighbours; (cases, weights)
        gain = gains.mean(axis=0)
        best = int(gain[:-1].argmax())  # the smallest weight among equals; the generalist alone is never chosen
        helps_most = (gains[:, best] > 0).mean() >= HALF  # or one case of many could have decided
        best = best if helps_most and min(gain[best], own[best] - own[0]) >= self.settings.min_gain else 0
        right = self._right[f, best] / np.maximum(1, self._disputed[f, best])
        verdict = "it helps" if best else "it does not help"
        return ClassRecord(
            name=name,
            generalist=self.generalist,
            weight=self._measured[best],
            disagreement=(float(right[0]), float(right[1])) if best else (0.0, 0.0),
            dice_specialist=float(own[0]),
            dice_generalist=float(own[-1]),
            dice_fused=float(own[best]),
            cases=cases,
            reason=f"{verdict}: Dice {own[0]:.3f} (specialist), {own[-1]:.3f} (generalist), {own[best]:.3f} (chosen "
            f"fusion) over {cases} cases",
        )


def _only(f: int, weight: float, channels: int) -> GeneralistWeights:
    """Return weights that let the generalist contribute to one channel only."""
    return GeneralistWeights(tuple(weight if i == f else 0.0 for i in range(channels)), ((0.0, 0.0),) * channels)
