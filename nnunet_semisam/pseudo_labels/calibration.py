"""Measure on labeled cases whether a generalist helps, class by class, and leave it out where it does not.

The specialist's prediction of a labeled case gets a simulated generalisation error first (``generalisation_error.py``).
Choosing what SAM may do, and how it is prompted, by its measured Dice gain on labeled cases: SAM Carries the Burden,
https://arxiv.org/abs/2411.12602. How sure it is of its masks is measured there, too: ``temperature.py``.

Shapes in this file: ``K`` output channels of the network, ``F`` foreground classes or regions, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.temperature import LEAST, tempered, tempered_probs
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.fusion import contributes, fused_probs
from nnunet_semisam.pseudo_labels.round_log import ClassRecord
from nnunet_semisam.settings import SettingsBlock, setting, settings_block

BEST, EVERY = "best", "every"


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
    min_share: float = setting(
        0.5,
        """A generalist must help in more than this share of the labeled cases, the class itself and all classes
        together: one case that gains much does not make up for others that lose.""",
        low=0,
        below=1,
    )
    temperatures: tuple[float, ...] = setting(
        (1.0, 0.5, 2.0, 4.0),
        """What may divide the logits of a generalist's probabilities; for each class the one that makes the labels
        likeliest is taken. Larger is softer; 1 leaves them as they are.""",
        low=0.01,
        high=100,
        source="Guo et al., https://arxiv.org/abs/1706.04599",
    )
    on_learned_cases: bool = setting(
        False,
        """Whether a model is also measured on labeled cases that it was adapted to (`adapter`), and `prototypes` and
        `label_propagation` on the only labeled patient, whose labels they use: they know them, so that their gain
        there says little. Without it what has learned from all labeled cases is inactive.""",
    )
    strategies: str = setting(
        BEST,
        """Which prompt strategies of one model contribute to a class: the `best`, by its gain, or `every` one that
        helps.""",
        choices=(BEST, EVERY),
        source="SAM Carries the Burden, https://arxiv.org/abs/2411.12602, takes the best recipe",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights or list(self.weights) != sorted(set(self.weights)):
            raise UserError(
                f"The setting weights must name at least one share, ascending, each once, got {list(self.weights)}. To "
                "train without generalists, set use_sam: false."
            )
        if not self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise UserError(
                f"The setting temperatures must name at least one, each once, got {list(self.temperatures)}. [1] "
                "leaves all probabilities as they are."
            )


class Calibration:
    """Collects the measurements of one generalist case by case; :meth:`classes` concludes.

    Each class is tried alone: the generalist contributes to it with every weight and temperature, the specialist
    predicts all others. What a class wins at the cost of the others is then no gain.

    Args:
        labels: What the channels mean.
        generalist: Name of the generalist.
        settings: The block ``calibration``.
    """

    def __init__(self, labels: Labels, generalist: str, settings: CalibrationSettings | None = None) -> None:
        self.labels, self.generalist = labels, generalist
        self.settings = settings or CalibrationSettings()
        # What is tried: the specialist alone first, then every temperature with every weight, the generalist alone last
        self._tried = [
            (0.0, 1.0),
            *((weight, t) for t in self.settings.temperatures for weight in (*self.settings.weights, 1.0)),
        ]
        self._dice: list[list[np.ndarray]] = [[] for _ in range(labels.channels)]  # per class and case: (F, tried)
        self._disputed = np.zeros((labels.channels, len(self._tried), 2))  # the fused label says yes, and no
        self._right = np.zeros_like(self._disputed)
        self._surprise = np.zeros((labels.channels, len(self.settings.temperatures)))  # negative log-likelihood

    def add(self, specialist: np.ndarray, prediction: CasePrediction, label: np.ndarray) -> None:
        """Measure one labeled case.

        Args:
            specialist: Its prediction with simulated error, that the generalist was prompted with, ``(K, *S)``.
            prediction: The generalist's, arrays ``(F, *S)``.
            label: Label map, ``(*S)``; voxels of an ignore label do not count.
        """
        own = self.labels.foreground(specialist)
        valid = label <= max(self.labels.foreground_labels)  # nnU-Net's ignore label is the highest number
        real = np.stack([self.labels.members(label, f) & valid for f in range(self.labels.channels)])
        alone = self.labels.label_map(own)
        for f in range(self.labels.channels):
            window = _window(contributes(prediction, f, _only(f, 1.0, self.labels.channels)))
            part = CasePrediction(*(array[(slice(None), *window)] for array in vars(prediction).values()))
            self._add_surprise(f, part, real[f][window], valid[window])
            fused = self._fused_labels(f, own[(slice(None), *window)], part)
            if real[f].any():
                self._dice[f].append(self._all_dice(alone, fused, real, valid, window))
            self._count_disputes(f, fused, part, real[f][window], valid[window])

    def _fused_labels(self, f: int, own: np.ndarray, prediction: CasePrediction) -> list[np.ndarray]:
        """Return the label map of everything that is tried in one class."""
        softened = {t: tempered(prediction, self._only_here(f, t)) for t in self.settings.temperatures}
        softened.setdefault(1.0, prediction)
        return [
            self.labels.label_map(fused_probs(own, softened[t], _only(f, weight, self.labels.channels)))
            for weight, t in self._tried
        ]

    def _only_here(self, f: int, temperature: float) -> list[float]:
        return [temperature if i == f else 1.0 for i in range(self.labels.channels)]

    def _add_surprise(self, f: int, prediction: CasePrediction, real: np.ndarray, valid: np.ndarray) -> None:
        """Add how unlikely each temperature makes the label where the generalist counts."""
        counts = valid & contributes(prediction, f, _only(f, 1.0, self.labels.channels))
        probs, real = prediction.probs[f][counts], real[counts]
        for t, temperature in enumerate(self.settings.temperatures):
            likely = tempered_probs(probs, temperature).astype(np.float64)
            likely = np.where(real, likely, 1 - likely).clip(LEAST, 1)
            self._surprise[f, t] -= np.log(likely).sum()

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

    def _all_dice(
        self,
        alone: np.ndarray,
        fused: Sequence[np.ndarray],
        real: np.ndarray,
        valid: np.ndarray,
        window: tuple[slice, ...],
    ) -> np.ndarray:
        """Return the Dice of every class that the case shows (NaN: not shown) for all that is tried, ``(F, tried)``.

        ``fused`` holds the label maps within the window; outside of it they are that of the specialist ``alone``.
        """
        found = np.full((len(real), len(fused)), np.nan)
        for g, wanted in enumerate(real):
            if not wanted.any():
                continue
            total = self._counts(alone, g, wanted, valid)
            inside, inner, known = self._counts(alone[window], g, wanted[window], valid[window]), wanted[window], wanted
            for w, label in enumerate(fused):
                common, predicted = total - inside + self._counts(label, g, inner, valid[window])
                found[g, w] = 2 * common / (predicted + known.sum())
        return found

    def _counts(self, label: np.ndarray, g: int, real: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Return how many voxels of a class are right, and how many there are, in a label map."""
        predicted = self.labels.members(label, g) & valid
        return np.array([(predicted & real).sum(), predicted.sum()])

    def classes(self) -> tuple[ClassRecord, ...]:
        """Return the best weight of each class; 0 where none wins enough."""
        return tuple(self._conclude(f) for f in range(self.labels.channels))

    def _conclude(self, f: int) -> ClassRecord:
        name, cases = self.labels.names[f], len(self._dice[f])
        t = int(self._surprise[f].argmin())  # the first of equals
        temperature = self.settings.temperatures[t] if self._surprise[f].any() else 1.0
        if not cases:
            reason = "no labeled case that it may be measured on shows it"
            off = (0.0, 0.0)
            return ClassRecord(name, self.generalist, 0.0, off, None, None, None, 0, reason, temperature, None)
        shares = 1 + len(self.settings.weights)
        tried = np.array([0, *range(1 + t * shares, 1 + (t + 1) * shares)])
        by_case = np.stack(self._dice[f])[..., tried]
        best, helped = self._best(by_case, f)
        own = by_case[:, f].mean(axis=0)
        right = self._right[f, tried[best]] / np.maximum(1, self._disputed[f, tried[best]])
        verdict = "it helps" if best else "it does not help"
        return ClassRecord(
            name=name,
            generalist=self.generalist,
            weight=self._tried[tried[best]][0],
            disagreement=(float(right[0]), float(right[1])) if best else (0.0, 0.0),
            dice_specialist=float(own[0]),
            dice_generalist=float(own[-1]),
            dice_fused=float(own[best]),
            cases=cases,
            reason=f"{verdict}: Dice {own[0]:.3f} (specialist), {own[-1]:.3f} (generalist), {own[best]:.3f} (chosen "
            f"fusion) over {cases} cases; it gains in {helped:.0%} of them",
            temperature=temperature,
            helped=helped,
        )

    def _best(self, by_case: np.ndarray, f: int) -> tuple[int, float]:
        """Return the index of the weight of the largest gain, and in what share of the cases it gains.

        Args:
            by_case: Dice of every class, ``(cases, F, weights)``: no weight first, the generalist alone last, which is
                never chosen.
            f: The class.

        Returns:
            0 if no weight gains enough; the share is then that of the weight of the largest mean gain.
        """
        own = by_case[:, f] - by_case[:, f, :1]
        gains = np.minimum(own, np.nansum(by_case - by_case[..., :1], axis=1))  # the class, and with its neighbours
        mean, helped = gains.mean(axis=0)[:-1], (gains > 0).mean(axis=0)[:-1]
        enough = (mean >= self.settings.min_gain) & (helped > self.settings.min_share)
        enough[0] = False
        best = int(np.where(enough, mean, -np.inf).argmax()) if enough.any() else 0  # the smallest weight among equals
        return best, float(helped[best or 1 + int(mean[1:].argmax())])


def _window(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the box around the true voxels of a mask; an empty one if there are none."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else tuple(slice(0, 0) for _ in mask.shape)


def _only(f: int, weight: float, channels: int) -> GeneralistWeights:
    """Return weights that let the generalist contribute to one channel only."""
    return GeneralistWeights(tuple(weight if i == f else 0.0 for i in range(channels)), ((0.0, 0.0),) * channels)
