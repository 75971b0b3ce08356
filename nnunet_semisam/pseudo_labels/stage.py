"""Between epochs, turn the specialist's predictions of unlabeled cases into stored pseudo-labels.

The way of one case: load, predict (specialist), remove spurious components, predict (generalists), fuse, store.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network. Volumes are ``(Z, Y, X)`` in the axis
order of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from nnunet_semisam.generalists.base import CaseInput, CaseResult, stopwatch
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.calibration import Calibration, CalibrationTable
from nnunet_semisam.pseudo_labels.case_outcome import CaseOutcome, case_record
from nnunet_semisam.pseudo_labels.fusion import CasePriors, FusedLabel, fuse
from nnunet_semisam.pseudo_labels.generalisation_error import simulate_generalisation_error
from nnunet_semisam.pseudo_labels.provenance import provenance
from nnunet_semisam.pseudo_labels.round_log import CalibrationRecord, CaseRecord, record_from_json
from nnunet_semisam.pseudo_labels.round_summary import RoundSummary, summarize
from nnunet_semisam.pseudo_labels.selection import shard
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings import Settings

Spacing = tuple[float, float, float]


def _not_known(case: str) -> Spacing | None:
    return None


@dataclass(frozen=True)
class StageInputs:
    """Where a stage gets its data from.

    Attributes:
        load_image: Returns a case's preprocessed image, ``(C, Z, Y, X)``, float32.
        predict: Returns the specialist's probabilities of such an image, ``(K, Z, Y, X)``: softmax with the background
            first, or sigmoid regions.
        spacing: Voxel size of preprocessed images in mm, three axes (or two: slices of a 2D configuration).
        spacing_of: Returns the true voxel size of a preprocessed case in mm, or ``None`` if it is not known.
        priors: What labeled cases show.
    """

    load_image: Callable[[str], np.ndarray]
    predict: Callable[[np.ndarray], Tensor]
    spacing: Sequence[float]
    spacing_of: Callable[[str], Spacing | None] = _not_known
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

    # ------------------------------------------------------------------------------------------------------- rounds

    def refresh(
        self,
        round_index: int,
        cases: Sequence[str],
        epoch: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        barrier: Callable[[], object] = lambda: None,
    ) -> RoundSummary:
        """Make one round. The previous round stays in place until this one is complete.

        Args:
            round_index: Number of the round.
            cases: All cases to refresh, the same list in every process.
            epoch: Epoch of the network, for the provenance.
            rank: This process; process 0 opens and closes the round.
            world_size: How many processes share the work.
            barrier: Waits for the other processes; called after every case, so that none waits long enough to give up.

        Returns:
            Summary over all cases of all processes.
        """
        store = self.outputs.store
        if rank == 0:
            store.begin(round_index)
        barrier()
        mine = shard(cases, rank, world_size)
        for i in range(len(shard(cases, 0, world_size))):
            if i < len(mine):
                self.refresh_case(round_index, mine[i], epoch, preview=mine[i] in self._previewed(cases))
            barrier()
        if rank == 0:
            store.commit(round_index, provenance(self.settings, self.ensemble, self.calibration, epoch))
        barrier()
        stored = store.provenance(round_index)["cases"]
        records = [record_from_json(CaseRecord, stored[case]) for case in cases]
        if rank == 0 and self.outputs.records is not None:
            for record in records:
                round_log.append(self.outputs.records, record)
        summary = summarize(round_index, epoch, records)
        self.outputs.log(summary.log_text())
        return summary

    def _previewed(self, cases: Sequence[str]) -> Sequence[str]:
        return cases[: self.sam.preview_cases] if self.outputs.previews is not None else ()

    def refresh_case(self, round_index: int, case: str, epoch: int, preview: bool = False) -> None:
        """Write the pseudo-label of one case into a round that has begun."""
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "load"):
            image = self.inputs.load_image(case)
        with stopwatch(seconds, "predict"):
            specialist = self._predict(case, image)
        prompted = self._without_spurious(specialist)
        result = self.ensemble.predict_case(CaseInput(case, image, prompted, self._known_spacing(case)))
        weights, priors = self.ensemble.weights, self.inputs.priors
        with stopwatch(seconds, "fuse"):
            fused = fuse(specialist, result.prediction, self.labels, weights, self.settings.block("fusion"), priors)
        threshold = self.sam.confidence_threshold
        outcome = CaseOutcome(specialist, result, fused, weights.weight, seconds)
        record = case_record(round_index, epoch, case, outcome, self.labels, threshold)
        self.outputs.store.write(round_index, case, fused.label, fused.confidence, asdict(record), threshold)
        if preview:
            self._write_preview(round_index, case, image, prompted, result, fused)

    def _predict(self, case: str, image: np.ndarray) -> np.ndarray:
        specialist = self.inputs.predict(image).detach().float().cpu().numpy()
        if not np.isfinite(specialist).all():
            raise ValueError(f"The network's probabilities of case {case!r} hold NaN; has the training diverged?")
        return specialist

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
        settings = self.settings.block("calibration")
        calibrations = [Calibration(self.labels, member.name, settings) for member in members]
        for case in cases:
            image, label = self.inputs.load_image(case), load_label(case)
            specialist = simulate_generalisation_error(
                self._predict(case, image),
                label,
                self.labels,
                estimated_dice,
                self._spacing(case, label.shape),
                case,
                self.settings.block("generalisation_error"),
            )
            inputs = CaseInput(case, image, specialist, self._known_spacing(case))
            for member, calibration in zip(members, calibrations, strict=True):
                calibration.add(specialist, member.predict_case(inputs).prediction, label)
        names = tuple(member.name for member in members)
        classes = tuple(entry for calibration in calibrations for entry in calibration.classes())
        table = CalibrationTable(names, classes)
        if self.outputs.records is not None:
            seconds = time.perf_counter() - start
            round_log.append(
                self.outputs.records, CalibrationRecord(round_index, epoch, estimated_dice, seconds, table.classes)
            )
        return table

    def use_calibration(self, table: CalibrationTable) -> None:
        """Follow a calibration in all rounds from now on.

        Raises:
            ValueError: If it is one of other generalists.
        """
        self.ensemble.use_weights(table.weights)
        self.calibration = table

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

    def _write_preview(
        self,
        round_index: int,
        case: str,
        image: np.ndarray,
        prompted: np.ndarray,
        result: CaseResult,
        fused: FusedLabel,
    ) -> None:
        # matplotlib takes a second to load
        from nnunet_semisam.pseudo_labels.preview import Preview, informative_slice, write_preview

        specialist = self.labels.label_map(self.labels.foreground(prompted))
        axis = self.ensemble.axis
        index = informative_slice(np.maximum(specialist, fused.label), axis)
        preview = Preview(
            title=f"{case}, round {round_index}",
            image=image[self.ensemble.channel],
            specialist=specialist,
            prediction=result.prediction,
            prompts=self.ensemble.prompts_in_slice(result, index),
            fused=fused,
            axis=axis,
            index=index,
            spacing=self.inputs.spacing,
        )
        write_preview(self.outputs.previews / f"round_{round_index:03d}_{case}.png", preview, self.labels)
