"""Between epochs, turn the specialist's predictions of unlabeled cases into stored pseudo-labels.

The way of one case: load, predict (specialist), remove spurious components, predict (generalists), fuse, store.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network. Volumes are ``(Z, Y, X)`` in the axis
order of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from nnunet_semisam.data.geometry import Matrix
from nnunet_semisam.errors import UserError, name_some
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
from nnunet_semisam.generalists.temperature import tempered
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.calibration import BEST, Calibration, CalibrationSettings
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable, best_strategies
from nnunet_semisam.pseudo_labels.case_outcome import CaseOutcome, case_record
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusedLabel, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.provenance import provenance
from nnunet_semisam.pseudo_labels.round_log import CalibrationRecord, CaseRecord, record_from_json
from nnunet_semisam.pseudo_labels.round_summary import RoundSummary, summarize
from nnunet_semisam.pseudo_labels.second_opinion import SecondOpinion, compare
from nnunet_semisam.pseudo_labels.selection import shard
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings import Settings

MUCH_MORE = 2.0  # times the planned cost of generalists, from which a line in the log says so
LITTLE_SECONDS = 1.0  # for a case, below which nobody needs to hear of it


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
class StageOutputs:
    """Where a stage writes to.

    Attributes:
        store: Where pseudo-labels go.
        records: Folder of the records of rounds; ``None`` writes none.
        previews: Folder of pictures of a few cases; ``None`` writes none.
        log: Receives lines for the training log.
    """

    store: PseudoLabelStore
    records: Path | None = None
    previews: Path | None = None
    log: Callable[[str], object] = lambda text: None


@dataclass(frozen=True)
class _PredictedCase:
    """A case before it is written: its image ``(C, Z, Y, X)``, what was prompted with, and the outcome."""

    image: np.ndarray
    prompted: np.ndarray
    outcome: CaseOutcome


@dataclass(frozen=True)
class _MeasuredCase:
    """A labeled case of a calibration: label ``(Z, Y, X)``, the specialist's prediction with a simulated error."""

    case: str
    label: np.ndarray
    specialist: np.ndarray
    results: list[CaseResult]  # of each generalist that is measured on it


def _alone(error: Exception | None) -> None:
    if error is not None:
        raise error


def _error_of(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except Exception as error:  # raised again by all processes together
        return error
    return None


def _check_finite(result: CaseResult, name: str, case: str) -> None:
    if not (np.isfinite(result.prediction.probs).all() and np.isfinite(result.prediction.reliability).all()):
        raise UserError(
            f"The masks of {name} for case {case!r} are not finite (NaN): its image holds such values, or the weights "
            "are damaged."
        )


class PseudoLabelStage:
    """Refreshes the pseudo-labels of unlabeled cases.

    Args:
        settings: The settings of the run.
        ensemble: The generalists.
        labels: What the network's output channels mean.
        inputs: Where data come from.
        outputs: Where results go.

    Attributes:
        calibration: The latest calibration; ``None`` before the first.
    """

    def __init__(
        self,
        settings: Settings,
        ensemble: GeneralistEnsemble,
        labels: Labels,
        inputs: StageInputs,
        outputs: StageOutputs,
    ) -> None:
        self.settings, self.ensemble, self.labels = settings, ensemble, labels
        self.inputs, self.outputs = inputs, outputs
        self.sam = settings.block("sam")
        self.calibration: CalibrationTable | None = None
        self._cost_is_told = False

    # ------------------------------------------------------------------------------------------------------- rounds

    def refresh(
        self,
        round_index: int,
        cases: Sequence[str],
        epoch: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        together: Callable[[Exception | None], object] = _alone,
    ) -> RoundSummary:
        """Make one round. The previous round stays in place until this one is complete.

        Args:
            round_index: Number of the round.
            cases: All cases to refresh, the same list in every process.
            epoch: Epoch of the network, for the provenance.
            rank: This process; process 0 opens and closes the round.
            world_size: How many processes share the work.
            together: Waits for the other processes, and raises in all of them if one has an error; called after every
                case, so that none waits long enough to give up.

        Returns:
            Summary over all cases of all processes.

        Raises:
            UserError: If the round cannot be written, or nothing of the first round can be predicted.
        """
        store, previewed = self.outputs.store, self._previewed(cases)
        together(_error_of(lambda: store.begin(round_index)) if rank == 0 else None)
        mine = shard(cases, rank, world_size)
        reasons: dict[str, str] = {}
        for i in range(len(shard(cases, 0, world_size))):
            error = None
            if i < len(mine):
                error = _error_of(lambda: self.refresh_case(round_index, mine[i], epoch, previewed, reasons))  # noqa: B023
            together(error)
        together(_error_of(lambda: self._commit(round_index, epoch)) if rank == 0 else None)
        self.ensemble.end_round()
        stored = store.provenance(round_index)["cases"]
        made = [case for case in cases if stored.get(case, {}).get("round") == round_index]
        self._tell_left_out(round_index, cases, made, reasons)
        records = [record_from_json(CaseRecord, stored[case]) for case in made]
        if rank == 0 and self.outputs.records is not None:
            for record in records:
                round_log.append(self.outputs.records, record)
        summary = summarize(round_index, epoch, records)
        self.outputs.log(summary.log_text())
        self._tell_cost(summary)
        return summary

    def _tell_cost(self, summary: RoundSummary) -> None:
        """Warn once if the generalists cost much more than the size of rounds was planned with."""
        cost = summary.generalist_cost(1 + (self.inputs.predict_mirrored is not None))
        seconds = sum(summary.seconds_by_generalist.values())
        if self._cost_is_told or cost is None or seconds < LITTLE_SECONDS * summary.cases:
            return
        if cost <= MUCH_MORE * max(1.0, self.sam.generalist_cost):
            return
        self._cost_is_told = True
        self.outputs.log(
            f"WARNING: The generalists take as long for a case as {cost:.0f} predictions of the network; rounds were "
            f"planned with {self.sam.generalist_cost:g}, so they take more than their share {self.sam.compute_share:g} "
            f"of the training. Set sam: {{generalist_cost: {cost:.0f}}} for rounds of fewer cases."
        )

    def _commit(self, round_index: int, epoch: int) -> None:
        about = provenance(self.settings, self.ensemble, self.calibration, epoch)
        damaged = self.outputs.store.commit(round_index, about)
        if damaged:
            self.outputs.log(
                f"WARNING: {len(damaged)} pseudo-label(s) of the round before are damaged and were left out until "
                f"their cases' next turn: {name_some(list(damaged), 5)}. {next(iter(damaged.values()))}"
            )

    def refresh_case(
        self, round_index: int, case: str, epoch: int, previewed: Sequence[str], reasons: dict[str, str]
    ) -> None:
        """Refresh a case; one that cannot be read or predicted keeps its pseudo-label of the round before, if any."""
        try:
            made = self._predict_case(case)
        except UserError as error:
            reasons[case] = str(error)
            return
        self._write_case(round_index, case, epoch, made, preview=case in previewed)

    def _tell_left_out(
        self, round_index: int, cases: Sequence[str], made: Sequence[str], reasons: Mapping[str, str]
    ) -> None:
        missing = [case for case in cases if case not in made]
        if not missing:
            return
        reason = next(iter(reasons.values()), "the reason is in the output of another process")
        if not made and not self.outputs.store.cases(round_index):
            raise UserError(f"No pseudo-label could be made: none of the {len(cases)} cases of the round. {reason}")
        self.outputs.log(
            f"WARNING: {len(missing)} of {len(cases)} cases were left out of round {round_index} of pseudo-labels: "
            f"{name_some(missing, 5)}. {reason}"
        )

    def _previewed(self, cases: Sequence[str]) -> Sequence[str]:
        return cases[: self.sam.preview_cases] if self.outputs.previews is not None else ()

    def _predict_case(self, case: str) -> _PredictedCase:
        """Make the pseudo-label of one case; nothing is written."""
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "load"):
            image = self.inputs.load_image(case)
        with stopwatch(seconds, "predict"):
            specialist, second = self._predict_twice(case, image)
        prompted = self._without_spurious(specialist)
        result = self._ask_generalists(self._case_input(case, image, prompted))
        weights, priors, settings = self.ensemble.weights, self.inputs.priors, self.settings.block("fusion")
        with stopwatch(seconds, "fuse"):
            fused = fuse(specialist, result.prediction, self.labels, weights, settings, priors, second)
        return _PredictedCase(image, prompted, CaseOutcome(specialist, result, fused, weights.weight, seconds))

    def _ask_generalists(self, case: CaseInput) -> CaseResult:
        """Return what the generalists make of a case; where none helps in any class none is asked."""
        if not self.ensemble.weights.active:
            channels = self.labels.channels
            nothing = CasePrediction.empty((channels, *case.image.shape[1:]))
            return CaseResult(nothing, PromptCounts.none(channels), {}, members=[])
        result = self.ensemble.predict_case(case)
        _check_finite(result, self.ensemble.name, case.name)
        return result

    def _write_case(self, round_index: int, case: str, epoch: int, made: _PredictedCase, preview: bool) -> None:
        threshold, outcome = self.sam.confidence_threshold, made.outcome
        record = case_record(round_index, epoch, case, outcome, self.labels, threshold)
        fused = outcome.fused
        self.outputs.store.write(round_index, case, fused.label, fused.confidence, asdict(record), threshold)
        if preview:
            name, title = f"round_{round_index:03d}_{case}", f"{case}, round {round_index}"
            weights = self.ensemble.weights
            self._write_preview(name, title, made.image, made.prompted, outcome.result, fused, weights)

    def _predict(self, case: str, image: np.ndarray, mirrored: bool = False) -> np.ndarray:
        predict = self.inputs.predict_mirrored if mirrored else self.inputs.predict
        specialist = predict(image).detach().float().cpu().numpy()
        if not np.isfinite(specialist).all():
            raise UserError(
                f"The network's probabilities of case {case!r} are not finite (NaN): its image holds such values, or "
                "the training has diverged."
            )
        return specialist

    def _predict_twice(self, case: str, image: np.ndarray) -> tuple[np.ndarray, SecondOpinion | None]:
        """Return the mean of the predictions of an image and of the mirrored image, and how alike they are."""
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
                found.append(self._predict_twice(case, self.inputs.load_image(case))[1].mean_dice)
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

    # -------------------------------------------------------------------------------------------------- calibration

    def calibrate(
        self,
        round_index: int,
        epoch: int,
        cases: Sequence[str],
        load_label: Callable[[str], np.ndarray],
        estimated_dice: float,
    ) -> CalibrationTable:
        """Measure on labeled cases where each generalist helps; call :meth:`use_calibration` with the result.

        Args:
            round_index: Number of the round that the calibration is for.
            epoch: Epoch of the network.
            cases: Labeled training cases; ``load_image`` must know them.
            load_label: Returns a case's label map, ``(Z, Y, X)``.
            estimated_dice: The network's mean foreground Dice on cases it has not seen, in [0, 1]; an error of this
                size is simulated before a generalist is prompted.
        """
        start = time.perf_counter()
        members = self.ensemble.members
        settings: CalibrationSettings = self.settings.block("calibration")
        calibrations = [Calibration(self.labels, member.name, settings) for member in members]
        reasons = {}
        shown: _MeasuredCase | None = None
        for case in cases:
            judged = [m for m, member in enumerate(members) if self._may_judge(member, case)]
            try:
                chosen = [members[m] for m in judged]
                measured = self._measured(case, load_label(case), estimated_dice, chosen)
            except UserError as error:
                reasons[case] = str(error)
                continue
            for m, result in zip(judged, measured.results, strict=True):
                calibrations[m].add(measured.specialist, result.prediction, measured.label)
            if 0 in judged:
                shown = shown or measured
        if reasons:
            first = next(iter(reasons.values()))
            if len(reasons) == len(cases):
                raise UserError(f"None of the {len(cases)} labeled cases of the calibration can be used. {first}")
            self.outputs.log(
                f"WARNING: {len(reasons)} of {len(cases)} labeled cases were left out of the calibration: "
                f"{name_some(list(reasons), 5)}. {first}"
            )
        names = tuple(member.name for member in members)
        classes = tuple(entry for calibration in calibrations for entry in calibration.classes())
        if settings.strategies == BEST:
            classes = best_strategies(classes, {member.name: member.model or member.name for member in members})
        table = CalibrationTable(names, classes)
        if shown is not None and self._previewed([shown.case]):
            self._write_labeled_preview(round_index, shown, table.weights[0])
        if self.outputs.records is not None:
            seconds = time.perf_counter() - start
            round_log.append(
                self.outputs.records, CalibrationRecord(round_index, epoch, estimated_dice, seconds, table.classes)
            )
        return table

    def _may_judge(self, member: Generalist, case: str) -> bool:
        return self.settings.block("calibration").on_learned_cases or case not in member.learned

    def calibration_cases(self, cases: Sequence[str]) -> list[str]:
        """Return the labeled cases that no generalist was adapted to; all of them if there is no such case."""
        unknown = [case for case in cases if all(self._may_judge(member, case) for member in self.ensemble.members)]
        return unknown or list(cases)

    def _measured(
        self, case: str, label: np.ndarray, estimated_dice: float, members: Sequence[Generalist]
    ) -> _MeasuredCase:
        """Return the specialist's prediction with a simulated error, and what generalists make of it."""
        image = self.inputs.load_image(case)
        specialist = simulate_generalisation_error(
            self._predict(case, image),
            label,
            self.labels,
            estimated_dice,
            self._spacing(case, label.shape),
            case,
            self.settings.block("generalisation_error"),
        )
        inputs = self._case_input(case, image, specialist)
        results = {member.name: member.predict_case(inputs) for member in members}
        for name, result in results.items():
            _check_finite(result, name, case)
        return _MeasuredCase(case, label, specialist, list(results.values()))

    def use_calibration(self, table: CalibrationTable) -> None:
        """Follow a calibration in all rounds from now on.

        Raises:
            ValueError: If it is one of other generalists.
        """
        self.ensemble.use_weights(table.weights)
        self.calibration = table

    def _case_input(self, case: str, image: np.ndarray, specialist: np.ndarray) -> CaseInput:
        return CaseInput(case, image, specialist, self._known_spacing(case), self.inputs.direction_of(case))

    def _known_spacing(self, case: str) -> Spacing | None:
        """Return the voxel size of a case: its own, or that of a 3D configuration."""
        known = self.inputs.spacing_of(case)
        if known is None and len(self.inputs.spacing) == 3:
            known = tuple(float(mm) for mm in self.inputs.spacing)
        return known

    def _spacing(self, case: str, shape: Sequence[int]) -> Spacing:
        """Return the voxel size of a case; slices count as thick where their distance is not known or there is one."""
        known = self._known_spacing(case)
        single = shape[0] == 1 and len(self.inputs.spacing) == 2
        if known is not None and not single:
            return known
        return (self.sam.thick_slice * max(self.inputs.spacing), *self.inputs.spacing)

    # ----------------------------------------------------------------------------------------------------- pictures

    def _write_labeled_preview(self, round_index: int, shown: _MeasuredCase, weights: GeneralistWeights) -> None:
        """Draw a labeled case of a calibration as the first generalist saw it, fused with the weights just found."""
        result = shown.results[0]
        prediction = tempered(result.prediction, weights.temperature)
        fused = fuse(
            shown.specialist, prediction, self.labels, weights, self.settings.block("fusion"), self.inputs.priors
        )
        name = f"round_{round_index:03d}_labeled_{shown.case}"
        title = f"{shown.case} (labeled; generalisation error simulated), calibration of round {round_index}"
        image = self.inputs.load_image(shown.case)
        self._write_preview(name, title, image, shown.specialist, result, fused, weights, shown.label)

    def _write_preview(
        self,
        name: str,
        title: str,
        image: np.ndarray,
        prompted: np.ndarray,
        result: CaseResult,
        fused: FusedLabel,
        weights: GeneralistWeights,
        label: np.ndarray | None = None,
    ) -> None:
        # matplotlib takes a second to load
        from nnunet_semisam.pseudo_labels.preview import Preview, informative_slice, write_preview

        specialist = self.labels.label_map(self.labels.foreground(prompted))
        axis = self.ensemble.axis
        index = informative_slice(np.maximum(specialist, fused.label), axis)
        source = self.ensemble if label is None else self.ensemble.members[0]
        preview = Preview(
            title=title,
            image=image[self.ensemble.channel],
            specialist=specialist,
            prediction=result.prediction,
            prompts=source.prompts_in_slice(result, index),
            fused=fused,
            axis=axis,
            index=index,
            spacing=self.inputs.spacing,
            threshold=self.sam.confidence_threshold,
            generalist=source.name,
            weights=weights.weight,
            label=label,
        )
        write_preview(self.outputs.previews / f"{name}.png", preview, self.labels)
