"""The rounds of pseudo-labels of one training: when to make one, with which cases, and which one to read."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from nnunet_semisam import ranks
from nnunet_semisam.context import TrainingContext
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.array_files import UNREADABLE
from nnunet_semisam.labels import Labels
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.build_stage import build_stage
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases
from nnunet_semisam.pseudo_labels.resumed_rounds import place_of, resume_calibration, resume_generalists, turns
from nnunet_semisam.pseudo_labels.round_log import RoundRecord
from nnunet_semisam.pseudo_labels.round_plan import RoundPlan
from nnunet_semisam.pseudo_labels.rounds import RoundReader
from nnunet_semisam.pseudo_labels.selection import cases_for_round, rolling_window
from nnunet_semisam.pseudo_labels.settings import SAMSettings
from nnunet_semisam.pseudo_labels.specialist import count_windows
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage, StageOutputs
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.pseudo_labels.term import PseudoLabelTerm
from nnunet_semisam.splits.cases_of_fold import groups_of_dataset

STORE_FOLDER, PREVIEW_FOLDER = "semisam_store", "semisam_previews"


class Gate(Protocol):
    """What the session needs to know about the network; see :class:`nnunet_semisam.gate.class_gate.ClassGate`.

    Attributes:
        left_out: Channels that no labeled case shows, and that nothing waits for.
        is_patient: Whether unknown classes are still waited for.
    """

    left_out: Collection[int]
    is_patient: bool

    def class_weights(self) -> Tensor:
        """Return how well each output channel is known by now, ``(K,)``, in [0, 1]."""

    def estimated_dice(self) -> float:
        """Return an estimate of the mean foreground Dice on unseen cases, in [0, 1]."""


class PseudoLabelSession:
    """Makes rounds between epochs and says which one is in use.

    Args:
        context: The training.
        pool: The unlabeled cases.
        specialist: The network that is predicted with; not used before the first round.
        gate: Knows how well the network knows its classes.

    Attributes:
        reader: Tells the loaders which round to read.
        term: The loss of the round in use.
        current_round: Number of the round in use; ``None``: none is.
        waits_for: Output channels that the network must know better before the round that is due can be made.
        seconds: What all rounds took so far, calibrations included.

    Raises:
        UserError: If a SAM cannot be loaded.
    """

    def __init__(
        self,
        context: TrainingContext,
        pool: UnlabeledDataset,
        specialist: nn.Module,
        gate: Gate,
    ) -> None:
        self.context, self.pool, self.gate = context, pool, gate
        self.settings: SAMSettings = context.settings.block("sam")
        self.term = PseudoLabelTerm(self.settings, context.labels)
        group_of, _ = groups_of_dataset(context.data.preprocessed_dataset)
        self.labeled = LabeledCases(context.labeled_dataset, context.labels, group_of)
        patch_size = context.data.patch_size
        store_folder = context.output_folder / STORE_FOLDER
        self.store = PseudoLabelStore(store_folder, patch_size, self.settings.max_locations)
        highest = max(context.labels.foreground_labels)
        self.reader = RoundReader(store_folder, patch_size, highest, self.settings.age_decay)
        self.stage = self._build_stage(specialist)
        self.plan = RoundPlan.of(context, self._windows_per_case())
        self.current_round: int | None = None
        self.waits_for: list[int] = []
        self.seconds = 0.0
        self._next_round = 0
        self._last_refresh: int | None = None
        self._last_round: dict[str, int] = {}

    def _build_stage(self, specialist: nn.Module) -> PseudoLabelStage:
        context = self.context
        outputs = StageOutputs(
            store=self.store,
            records=context.output_folder,
            previews=context.output_folder / PREVIEW_FOLDER,
            log=context.log,
        )
        return build_stage(context, specialist, self.labeled, self._load_image, outputs)

    def _load_image(self, case: str) -> np.ndarray:
        if case not in self.pool.files:
            return self.labeled.load_image(case)
        try:
            return self.pool.load_image(case)
        except UNREADABLE as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"The preprocessed image {self.pool.files[case]} is damaged ({printable(str(error), 200)}). Delete it "
                "and preprocess it again."
            ) from error

    def _windows_per_case(self) -> float:
        """Return how many patches the sliding window takes for an unlabeled case, on average."""
        patch_size, tile_step = self.context.data.patch_size, self.settings.tile_step
        shapes = [self.pool.open_image(case).shape[1:] for case in self.pool.files]
        return float(np.mean([count_windows(shape, patch_size, tile_step) for shape in shapes]))

    # -------------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Return the round in use, the next one, which cases had their turn, calibration, what generalists remember."""
        table = self.stage.calibration
        return {
            "round": self.current_round,
            "next_round": self._next_round,
            "last_refresh": self._last_refresh,
            "last_round": dict(self._last_round),
            "seconds": self.seconds,
            "calibration": None if table is None else table.to_dict(),
            "generalists": self.stage.ensemble.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the round that a checkpoint names; one that is gone or damaged is made again at the next epoch."""
        log = self.context.log
        resume_calibration(state.get("calibration"), self.stage, self.context.labels, log)
        seconds = state.get("seconds")
        self.seconds = seconds if isinstance(seconds, float) and seconds >= 0 else 0.0
        resume_generalists(state.get("generalists", {}), self.stage, log)
        # Process 0 looks for all: one that saw another state of a network drive would wait for rounds of its own.
        place = ranks.computed_on_rank_zero(self.context.rank, lambda: place_of(state, self.store, log))
        self._next_round = place.next_round
        if place.problem is None:
            self._last_refresh = place.last_refresh
            self._last_round = turns(state.get("last_round"))
            self._use(place.round)
            return
        self._last_refresh = None
        log(f"WARNING: {place.problem}; a new round of pseudo-labels will be made.")

    def keep_rounds(self, named: set[int] | None) -> None:
        """Remove all rounds but those that checkpoints name, the one in use, and what a worker may still read.

        Args:
            named: What the checkpoints name; ``None``: that is not known, so nothing is removed.
        """
        if named is None:
            return
        previous = [r for r in self.store.rounds() if self.current_round is not None and r < self.current_round]
        self.store.prune({*named, self.current_round, *previous[-1:]} - {None})

    # --------------------------------------------------------------------------------------------- between epochs

    def maybe_refresh(self, epoch: int) -> None:
        """Make a new round if one is due, the term has started, and the network knows its classes to some degree."""
        if self.term.weight_by_schedule(epoch / self.context.settings.run.num_epochs) == 0:
            return
        if self._last_refresh is not None and epoch - self._last_refresh < self.plan.refresh_epochs:
            return
        weights = self.gate.class_weights()
        self.waits_for = []
        if not can_prompt(weights, self.context.labels, self.gate.left_out, self.gate.is_patient):
            first = self.context.labels.first_foreground
            unknown = [k for k in range(first, len(weights)) if k not in self.gate.left_out and weights[k] == 0]
            self.waits_for = unknown
            return
        self._refresh(epoch)

    def _refresh(self, epoch: int) -> None:
        start = time.perf_counter()
        self._last_refresh = epoch
        round_index = self._next_round
        self._next_round += 1
        if not self._calibrated(round_index, epoch):
            if not self.settings.mirror:
                self.context.log("No generalist helps in any class by now: no pseudo-labels until the next round.")
                self._use(None)
                self._record(RoundRecord(round_index, epoch, 0, False, time.perf_counter() - start))
                return
            self.context.log("No generalist helps in any class by now: pseudo-labels are of the network alone.")
        # A round carries the labels of earlier ones; without a first large one, most cases wait for theirs for long.
        # Later rounds on the disk belong to a future that a resumed run has left, or to an earlier training.
        first = not any(earlier < round_index for earlier in self.store.rounds())
        count = self.plan.cases_at_first if first else self.plan.cases_per_refresh
        cases = cases_for_round(list(self.pool.files), self._last_round, count)
        self._last_round |= dict.fromkeys(cases, round_index)
        self.context.log(f"SAM: pseudo-labels of {len(cases)} of {len(self.pool.files)} unlabeled cases ...")
        context = self.context
        self.stage.refresh(
            round_index, cases, epoch, rank=context.rank, world_size=context.world_size, together=ranks.fail_together
        )
        self._use(round_index)
        self._record(RoundRecord(round_index, epoch, len(cases), True, time.perf_counter() - start))

    def _calibrated(self, round_index: int, epoch: int) -> bool:
        """Calibrate, if that is due, and return whether any generalist helps in any class.

        Process 0 measures and tells the others: all must fuse with the same weights.
        """
        table, every = self.stage.calibration, self.settings.calibrate_every
        if table is None or not table.active or round_index % every == 0:
            cases = rolling_window(
                self.stage.calibration_cases(self.labeled.cases), round_index // every, self.settings.calibration_cases
            )
            unlabeled = cases_for_round(list(self.pool.files), self._last_round, self.settings.calibration_cases)
            self.context.log(f"SAM: calibration on {len(cases)} labeled and {len(unlabeled)} unlabeled cases ...")
            table = ranks.computed_on_rank_zero(
                self.context.rank,
                lambda: self._calibrate(round_index, epoch, cases, unlabeled),
            )
            self.stage.use_calibration(table)
            labels = self.context.labels
            names = dict(zip(labels.names, labels.class_names, strict=True)) if labels.given_names else {}
            self.context.log(table.log_text(names))
        return table.active

    def _calibrate(self, round_index: int, epoch: int, cases: list[str], unlabeled: list[str]) -> CalibrationTable:
        estimated_dice = self.stage.pipeline.estimate_dice(unlabeled)
        if estimated_dice is None:  # agreement of student and teacher, which training raises whatever the truth is
            estimated_dice = self.gate.estimated_dice()
        return self.stage.calibrate(round_index, epoch, cases, self.labeled.load_label, estimated_dice)

    def _use(self, round_index: int | None) -> None:
        self.current_round = round_index
        self.term.active = round_index is not None
        self.reader.point_to(round_index)

    @property
    def next_refresh(self) -> int:
        """Return the epoch before which the next round is due; one that waits for classes comes later."""
        start = math.ceil(self.settings.start * self.context.settings.run.num_epochs)
        return start if self._last_refresh is None else self._last_refresh + self.plan.refresh_epochs

    def seconds_to_come(self, num_epochs: int, epoch: int) -> float:
        """Return what the rounds after an epoch take, at the mean of those that were made; 0 before the first.

        Args:
            num_epochs: Of the training.
            epoch: The epoch that ended.
        """
        if self._next_round == 0:
            return 0.0
        first = max(self.next_refresh, epoch + 1)
        rounds = max(0, math.ceil((num_epochs - first) / self.plan.refresh_epochs))
        return rounds * self.seconds / self._next_round

    @property
    def budget(self) -> float:
        """Return what all rounds may compute, as a share of what the training computes without them."""
        return self.plan.largest_share(self.context, len(self.pool.files))

    def _record(self, record: RoundRecord) -> None:
        self.seconds += record.seconds
        if self.context.rank == 0:
            round_log.append(self.context.output_folder, record)


def can_prompt(class_weights: Tensor, labels: Labels, left_out: Collection[int] = (), all_classes: bool = True) -> bool:
    """Return whether the network knows all classes to some degree, or at least one region.

    Where a class is still unknown, "background" in a pseudo-label could be that class. How well the network knows a
    class weighs the label when it is used; a class that dips for an epoch must not keep labels from getting better.

    Args:
        class_weights: ``(K,)``, in [0, 1].
        labels: What the channels mean.
        left_out: Channels that no labeled case shows, and that nothing waits for.
        all_classes: Whether one unknown class is enough to wait. If not, unknown classes are merged into the background
            when a label is used, as in all unlabeled terms.
    """
    channels = [k for k in range(labels.first_foreground, len(class_weights)) if k not in left_out]
    foreground = class_weights[channels]
    return bool(foreground.min() > 0 if all_classes and not labels.has_regions else foreground.max() > 0)
