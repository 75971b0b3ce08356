"""Between epochs, turn the specialist's predictions of unlabeled cases into stored pseudo-labels.

What happens to one case is in ``case_pipeline.py``; here are rounds of many cases, and calibrations on labeled ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.generalists.base import Generalist
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.calibration import BEST, Calibration, CalibrationSettings
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable, best_strategies
from nnunet_semisam.pseudo_labels.case_outcome import case_record
from nnunet_semisam.pseudo_labels.case_pictures import CasePictures
from nnunet_semisam.pseudo_labels.case_pipeline import CasePipeline, MeasuredCase, PredictedCase, StageInputs
from nnunet_semisam.pseudo_labels.provenance import provenance
from nnunet_semisam.pseudo_labels.round_log import CalibrationRecord, CaseRecord, record_from_json
from nnunet_semisam.pseudo_labels.round_summary import RoundSummary, summarize
from nnunet_semisam.pseudo_labels.selection import shard
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings import Settings

MUCH_MORE = 2.0  # times the planned cost of generalists, from which a line in the log says so
LITTLE_SECONDS = 1.0  # for a case, below which nobody needs to hear of it


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


def _alone(error: Exception | None) -> None:
    if error is not None:
        raise error


def _error_of(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except Exception as error:  # raised again by all processes together
        return error
    return None


class PseudoLabelStage:
    """Refreshes the pseudo-labels of unlabeled cases.

    Args:
        settings: The settings of the run.
        ensemble: The generalists.
        labels: What the network's output channels mean.
        inputs: Where data come from.
        outputs: Where results go.

    Attributes:
        pipeline: Predicts single cases.
        pictures: Draws a few of them.
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
        self.pipeline = CasePipeline(settings, ensemble, labels, inputs)
        self.pictures = CasePictures(self.pipeline, outputs.previews)
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
        turns = range(len(shard(cases, 0, world_size)))
        for i in tqdm(turns, unit="case", desc="pseudo-labels", leave=False, disable=None if rank == 0 else True):
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
            made = self.pipeline.pseudo_label(case)
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

    def _write_case(self, round_index: int, case: str, epoch: int, made: PredictedCase, preview: bool) -> None:
        threshold, outcome = self.sam.confidence_threshold, made.outcome
        record = case_record(round_index, epoch, case, outcome, self.labels, threshold)
        fused = outcome.fused
        self.outputs.store.write(round_index, case, fused.label, fused.confidence, asdict(record), threshold)
        if preview:
            name, title = f"round_{round_index:03d}_{case}", f"{case}, round {round_index}"
            weights = self.ensemble.weights
            self.pictures.write(name, title, made.image, made.prompted, outcome.result, fused, weights)

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
        shown: MeasuredCase | None = None
        for case in cases:
            judged = [m for m, member in enumerate(members) if self._may_judge(member, case)]
            try:
                chosen = [members[m] for m in judged]
                measured = self.pipeline.measured(case, load_label(case), estimated_dice, chosen)
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
        classes = CalibrationTable(names, classes).with_unseen_of(self.calibration).classes
        if settings.strategies == BEST:
            classes = best_strategies(classes, {member.name: member.model or member.name for member in members})
        table = CalibrationTable(names, classes)
        if shown is not None and self._previewed([shown.case]):
            self.pictures.write_labeled(round_index, shown, table.weights[0])
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

    def use_calibration(self, table: CalibrationTable) -> None:
        """Follow a calibration in all rounds from now on.

        Raises:
            ValueError: If it is one of other generalists.
        """
        self.ensemble.use_weights(table.weights)
        self.calibration = table
