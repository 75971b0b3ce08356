"""The way of one case: load, predict (specialist), remove spurious components, predict (generalists), fuse.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network. Volumes are ``(Z, Y, X)`` in the axis
order of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from torch import Tensor

from nnunet_semisam.data.geometry import Matrix
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    PromptCounts,
    Spacing,
    no_spacing,
    stopwatch,
)
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels.case_outcome import CaseOutcome
from nnunet_semisam.pseudo_labels.fusion import CasePriors, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.second_opinion import SecondOpinion, compare
from nnunet_semisam.settings import Settings


def _no_direction(case: str) -> Matrix | None:
    return None


@dataclass(frozen=True)
class StageInputs:
    """Where a stage gets its data from.

    Attributes:
        load_image: Returns a case's preprocessed image, ``(C, Z, Y, X)``, float32.
        predict: Returns the specialist's probabilities of such an image, ``(K, Z, Y, X)``: softmax with the background
            first, or sigmoid regions.
        predict_mirrored: The same, predicted upside down; ``None``: no second opinion is asked for.
        spacing: Voxel size of preprocessed images in mm, three axes (or two: slices of a 2D configuration).
        spacing_of: Returns the true voxel size of a preprocessed case in mm, or ``None`` if it is not known.
        direction_of: Returns where the axes of a preprocessed case lead, or ``None`` if that is not known; see
            :class:`~nnunet_semisam.generalists.base.CaseInput`.
        priors: What labeled cases show.
    """

    load_image: Callable[[str], np.ndarray]
    predict: Callable[[np.ndarray], Tensor]
    spacing: Sequence[float]
    spacing_of: Callable[[str], Spacing | None] = no_spacing
    direction_of: Callable[[str], Matrix | None] = _no_direction
    predict_mirrored: Callable[[np.ndarray], Tensor] | None = None
    priors: CasePriors = CasePriors()  # noqa: RUF009  frozen, without mutable parts


@dataclass(frozen=True)
class PredictedCase:
    """A case before it is written: its image ``(C, Z, Y, X)``, what was prompted with, and the outcome."""

    image: np.ndarray
    prompted: np.ndarray
    outcome: CaseOutcome


@dataclass(frozen=True)
class MeasuredCase:
    """A labeled case of a calibration: label ``(Z, Y, X)``, the specialist's prediction with a simulated error."""

    case: str
    label: np.ndarray
    specialist: np.ndarray
    results: list[CaseResult]  # of each generalist that is measured on it


def check_result(result: CaseResult, name: str, case: CaseInput, channels: int) -> None:
    """Refuse what cannot be fused: other shapes would be taken for other classes.

    Raises:
        ValueError: If a part has another shape: a mistake in the generalist.
        UserError: If masks are not finite.
    """
    wanted = (channels, *case.image.shape[1:])
    for part in fields(CasePrediction):  # an ensemble's prediction has more parts
        shape = getattr(result.prediction, part.name).shape
        if shape != wanted:
            raise ValueError(
                f"A generalist must return arrays (F, Z, Y, X) over the foreground channels, here {wanted}: {name} "
                f"returns {part.name} of shape {shape}."
            )
    if not (np.isfinite(result.prediction.probs).all() and np.isfinite(result.prediction.reliability).all()):
        raise UserError(
            f"The masks of {name} for case {case.name!r} are not finite (NaN): its image holds such values, or the "
            "weights are damaged."
        )


class CasePipeline:
    """Predicts single cases; nothing is written.

    Args:
        settings: The settings of the run.
        ensemble: The generalists.
        labels: What the network's output channels mean.
        inputs: Where data come from.
    """

    def __init__(self, settings: Settings, ensemble: GeneralistEnsemble, labels: Labels, inputs: StageInputs) -> None:
        self.settings, self.ensemble, self.labels, self.inputs = settings, ensemble, labels, inputs

    def pseudo_label(self, case: str) -> PredictedCase:
        """Make the pseudo-label of an unlabeled case.

        Raises:
            UserError: If the case cannot be read, or a prediction is not finite.
        """
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "load"):
            image = self.inputs.load_image(case)
        with stopwatch(seconds, "predict"):
            specialist, second = self.predict_twice(case, image)
        return self.fused(case, image, specialist, second, seconds)

    def fused(
        self,
        case: str,
        image: np.ndarray,
        specialist: np.ndarray,
        second: SecondOpinion | None,
        seconds: dict[str, float] | None = None,
    ) -> PredictedCase:
        """Fuse a prediction of a case with what the generalists make of it.

        Args:
            case: Name of the case.
            image: Its preprocessed image, ``(C, Z, Y, X)``, float32.
            specialist: The prediction, ``(K, Z, Y, X)``, in [0, 1].
            second: A second opinion on it; ``None``: there is none.
            seconds: Time that was spent on the case so far, by part of the work.

        Raises:
            UserError: If a mask is not finite.
        """
        seconds = {} if seconds is None else seconds
        prompted = self._without_spurious(specialist)
        result = self._ask_generalists(self._case_input(case, image, prompted))
        weights, priors, settings = self.ensemble.weights, self.inputs.priors, self.settings.block("fusion")
        with stopwatch(seconds, "fuse"):
            fused = fuse(specialist, result.prediction, self.labels, weights, settings, priors, second)
        return PredictedCase(image, prompted, CaseOutcome(specialist, result, fused, weights.weight, seconds))

    def _ask_generalists(self, case: CaseInput) -> CaseResult:
        """Return what the generalists make of a case; where none helps in any class none is asked."""
        if not self.ensemble.weights.active:
            channels = self.labels.channels
            nothing = CasePrediction.empty((channels, *case.image.shape[1:]))
            return CaseResult(nothing, PromptCounts.none(channels), {}, members=[])
        result = self.ensemble.predict_case(case)
        check_result(result, self.ensemble.name, case, self.labels.channels)
        return result

    def measured(
        self, case: str, label: np.ndarray, estimated_dice: float, members: Sequence[Generalist]
    ) -> MeasuredCase:
        """Return the specialist's prediction of a labeled case with a simulated error, and what generalists make of it.

        Args:
            case: Name of the case.
            label: Its label map, ``(Z, Y, X)``.
            estimated_dice: The network's mean foreground Dice on cases it has not seen, in [0, 1].
            members: Generalists that may be measured on the case.

        Raises:
            UserError: If the case cannot be read, or a prediction is not finite.
        """
        image = self.inputs.load_image(case)
        specialist = simulate_generalisation_error(
            self._predict(case, image),
            label,
            self.labels,
            estimated_dice,
            self.spacing(case, label.shape),
            case,
            self.settings.block("generalisation_error"),
        )
        inputs = self._case_input(case, image, specialist)
        results = {member.name: member.predict_case(inputs) for member in members}
        for name, result in results.items():
            check_result(result, name, inputs, self.labels.channels)
        return MeasuredCase(case, label, specialist, list(results.values()))

    def _predict(self, case: str, image: np.ndarray, mirrored: bool = False) -> np.ndarray:
        predict = self.inputs.predict_mirrored if mirrored else self.inputs.predict
        specialist = predict(image).detach().float().cpu().numpy()
        if not np.isfinite(specialist).all():
            raise UserError(
                f"The network's probabilities of case {case!r} are not finite (NaN): its image holds such values, or "
                "the training has diverged."
            )
        return specialist

    def predict_twice(self, case: str, image: np.ndarray) -> tuple[np.ndarray, SecondOpinion | None]:
        """Return the mean of the predictions of an image and of the mirrored image, and how alike they are.

        Without ``sam.mirror`` it is the prediction of the image, and ``None``.

        Raises:
            UserError: If a prediction is not finite.
        """
        specialist = self._predict(case, image)
        if self.inputs.predict_mirrored is None:
            return specialist, None
        mirrored = self._predict(case, image, mirrored=True)
        largest = self.inputs.priors.largest(specialist[0].size)
        return (specialist + mirrored) / 2, compare(specialist, mirrored, self.labels, largest)

    def estimate_dice(self, cases: Sequence[str]) -> float | None:
        """Return an estimate of the specialist's mean foreground Dice on unlabeled cases, in [0, 1].

        It is the square of how well two predictions of one image agree, which was near the true Dice for networks of
        0.1 to 0.7 (docs/results.md, Reliability of confidence). Cases that cannot be read are passed over.

        Args:
            cases: Unlabeled cases.

        Returns:
            The square of the mean agreement over cases and classes; ``None`` without a second opinion, or where neither
            prediction shows any class in any case.
        """
        if self.inputs.predict_mirrored is None:
            return None
        found = []
        for case in cases:
            with contextlib.suppress(UserError):
                found.append(self.predict_twice(case, self.inputs.load_image(case))[1].mean_dice)
        known = [dice for dice in found if dice is not None]
        return float(np.mean(known)) ** 2 if known else None

    def _without_spurious(self, specialist: np.ndarray) -> np.ndarray:
        """Return the prediction without spurious components: whatever masks say of them, they will be background."""
        if self.inputs.priors.connectivity is None:
            return specialist
        label = self.labels.label_map(self.labels.foreground(specialist))
        spurious = self.inputs.priors.spurious(label, self.labels)
        cleaned = specialist.copy()
        cleaned[:, spurious] = 0.0
        if not self.labels.has_regions:
            cleaned[0, spurious] = 1.0
        return cleaned

    def _case_input(self, case: str, image: np.ndarray, specialist: np.ndarray) -> CaseInput:
        return CaseInput(case, image, specialist, self._known_spacing(case), self.inputs.direction_of(case))

    def _known_spacing(self, case: str) -> Spacing | None:
        """Return the voxel size of a case: its own, or that of a 3D configuration."""
        known = self.inputs.spacing_of(case)
        if known is None and len(self.inputs.spacing) == 3:
            known = tuple(float(mm) for mm in self.inputs.spacing)
        return known

    def spacing(self, case: str, shape: Sequence[int]) -> Spacing:
        """Return the voxel size of a case; slices count as thick where their distance is not known or there is one."""
        known = self._known_spacing(case)
        single = shape[0] == 1 and len(self.inputs.spacing) == 2
        if known is not None and not single:
            return known
        return (self.settings.block("sam").thick_slice * max(self.inputs.spacing), *self.inputs.spacing)
