"""The SAM stage as the trainer sees it: when to refresh, which round to read, and the loss of the SAM term."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import PseudoLabel
from nnunet_semisam.methods.parts.ema import unwrap
from nnunet_semisam.methods.parts.losses import dice_and_cross_entropy
from nnunet_semisam.methods.parts.schedules import decay
from nnunet_semisam.pseudo_labels.connectivity import PiecePrior
from nnunet_semisam.pseudo_labels.labeled_cases import LabeledCases
from nnunet_semisam.pseudo_labels.predict import CasePredictor, count_windows
from nnunet_semisam.pseudo_labels.rounds import RoundReader
from nnunet_semisam.pseudo_labels.selection import cases_for_round
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.sam import build_backend
from nnunet_semisam.training.checkpoint import read_entry

if TYPE_CHECKING:
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

ROUNDS_PER_TRAINING = 20
STAGE_SHARE = 0.05  # windows that a round predicts, as a share of what the training computes: the first round of all
# that the whole training computes, each further one of what it computes from round to round
CALIBRATE_EVERY = 5  # rounds; the network changes, and with it where SAM can help
CALIBRATION_CASES = 6  # labeled cases that SAM is measured on: rolling, so that all have their turn
FORWARDS_PER_PATCH = 7  # labeled and unlabeled student, forward and backward (3 each), and one teacher forward
CHECKPOINTS = ("checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth")


class PseudoLabelSession:
    """Owns SAM, store and stage of one training.

    Args:
        trainer: The training; its network is not asked before the first refresh.
        pool: The unlabeled cases.

    Raises:
        UserError: If the SAM cannot be loaded.
    """

    def __init__(self, trainer: SemiSupervisedTrainer, pool: UnlabeledDataset) -> None:
        self.trainer, self.pool, self.config = trainer, pool, trainer.config
        self.layout = Labels.from_label_manager(trainer.label_manager)
        self.labeled = LabeledCases(
            trainer.dataset_class(trainer.preprocessed_dataset_folder, trainer.fold_cases().train), self.layout
        )
        folder, patch_size = Path(trainer.output_folder), list(trainer.configuration_manager.patch_size)
        self.store = PseudoLabelStore(folder / "semisam_store", patch_size)
        self.reader = RoundReader(self.store.root, patch_size)
        self.stage = self._build_stage(folder)
        self.refresh_epochs = self.config.sam_refresh_epochs or max(1, self.config.num_epochs // ROUNDS_PER_TRAINING)
        windows = self._windows_per_case(patch_size)
        self.cases_per_refresh = self.config.sam_cases_per_refresh or self._affordable(self.refresh_epochs, windows)
        self.cases_at_first = max(self.cases_per_refresh, self._affordable(self.config.num_epochs, windows))
        self.current_round: int | None = None
        self._next_round = 0
        self._last_refresh: int | None = None

    def _build_stage(self, folder: Path) -> PseudoLabelStage:
        trainer = self.trainer
        backend = build_backend(self.config, trainer.device)
        cache = EmbeddingCache(
            Path(trainer.preprocessed_dataset_folder_base) / "semisam_embeddings",
            trainer.configuration_manager.data_identifier,
            backend.fingerprint,
            self.config.sam_cache_gb,
        )
        predict = CasePredictor(trainer, trainer.method.opinion(unwrap(trainer.network)))
        return PseudoLabelStage(
            self.config,
            backend,
            self.store,
            cache,
            load_image=self._load_image,
            predict=predict,
            layout=self.layout,
            spacing=trainer.configuration_manager.spacing,
            area_bounds=self.labeled.area_bounds(),
            pieces=PiecePrior.from_cases(map(self.labeled.load_truth, self.labeled.cases), self.layout),
            log=trainer.print_to_log_file,
            preview_folder=folder / "semisam_previews",
        )

    def _load_image(self, case: str) -> np.ndarray:
        return self.pool.load_image(case) if case in self.pool.files else self.labeled.load_image(case)

    def _windows_per_case(self, patch_size: list[int]) -> float:
        return float(np.mean([count_windows(self.pool.open_image(c).shape[1:], patch_size) for c in self.pool.files]))

    def _affordable(self, epochs: int, windows_per_case: float) -> int:
        """Return how many cases may be predicted for about a twentieth of what so many epochs compute."""
        patches = epochs * self.config.num_iterations_per_epoch * self.trainer.batch_size
        return max(1, int(STAGE_SHARE * FORWARDS_PER_PATCH * patches / windows_per_case))

    # --------------------------------------------------------------------------------------------- between epochs

    def state_dict(self) -> dict[str, int | None]:
        """Return the round in use, the number of the next one, and the epoch of the last refresh."""
        return {"round": self.current_round, "next_round": self._next_round, "last_refresh": self._last_refresh}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Go on with the round that a checkpoint names; a round that is gone is made again at the next epoch."""
        self._next_round, self._last_refresh = state["next_round"], state["last_refresh"]
        if state["round"] is None or state["round"] in self.store.rounds():
            self._use(state["round"])
            return
        self._last_refresh = None
        self.trainer.print_to_log_file(f"Round {state['round']} of pseudo-labels is gone; a new one will be made.")

    def maybe_refresh(self, epoch: int) -> None:
        """Make a new round if one is due, SAM may speak by the schedule, and the network has something to ask."""
        if self.weight_by_schedule(epoch / self.config.num_epochs) == 0:
            return
        if self._last_refresh is not None and epoch - self._last_refresh < self.refresh_epochs:
            return
        class_trust = self.trainer.method.class_trust()
        if class_trust is not None and not self._can_prompt(class_trust):
            self.trainer.print_to_log_file(
                f"SAM is not asked yet: the network has not learned what to ask for (maturity_dice): {class_trust}"
            )
            return
        self._refresh(epoch)

    def _refresh(self, epoch: int) -> None:
        self._last_refresh = epoch
        round_index = self._next_round
        self._next_round += 1
        if not self._calibrated(round_index):
            self.trainer.print_to_log_file("SAM helps in no class by now: its term is off until the next round.")
            self._use(None)
            return
        # A round carries the labels of earlier ones; without a first large one, most cases wait for theirs for long.
        count = self.cases_at_first if self.store.latest_round() is None else self.cases_per_refresh
        cases = cases_for_round(list(self.pool.files), round_index, count)
        ranks = {"rank": dist.get_rank(), "world_size": dist.get_world_size()} if self.trainer.is_ddp else {}
        barrier = dist.barrier if self.trainer.is_ddp else (lambda: None)
        self.stage.refresh(round_index, cases, epoch, barrier=barrier, **ranks)
        self._use(round_index)

    def _can_prompt(self, class_trust: list[float]) -> bool:
        """Return whether the network finds all classes to some degree, or at least one region.

        Where a class is still unknown, "background" in a pseudo-label could be that class. How mature it is weighs the
        label when it is used; a class that dips for an epoch must not keep labels from getting better.
        """
        return (max(class_trust) if self.layout.has_regions else min(class_trust[1:])) > 0

    def _calibrated(self, round_index: int) -> bool:
        """Measure SAM, if that is due, and return whether it may speak in any class."""
        table = self.stage.calibration
        if table is None or max(table.weights.weight) == 0 or round_index % CALIBRATE_EVERY == 0:
            evidence = cases_for_round(self.labeled.cases, round_index // CALIBRATE_EVERY, CALIBRATION_CASES)
            table = self.stage.calibrate(evidence, self.labeled.load_truth, self.trainer.method.expected_dice())
        return max(table.weights.weight) > 0

    def _use(self, round_index: int | None) -> None:
        self.current_round = round_index
        self.reader.point_to(round_index)

    def keep_rounds_of_checkpoints(self) -> None:
        """Remove all rounds that no checkpoint names and no worker may still read."""
        folder = Path(self.trainer.output_folder)
        entries = [read_entry(folder / name, torch.device("cpu")) for name in CHECKPOINTS if (folder / name).is_file()]
        named = {entry["pseudo_labels"]["round"] for entry in entries if entry and entry["pseudo_labels"]}
        previous = [r for r in self.store.rounds() if self.current_round is not None and r < self.current_round]
        self.store.prune({*named, self.current_round, *previous[-1:]} - {None})  # a worker may still read the previous

    # -------------------------------------------------------------------------------------------------- in the step

    def weight_by_schedule(self, progress: float) -> float:
        """Return the weight of the SAM term at this time of the training."""
        return self.config.sam_weight * decay(progress, self.config.sam_start, self.config.sam_decay)

    def weight(self, progress: float) -> float:
        """Return the weight of the SAM term: 0 before the first round."""
        return 0.0 if self.current_round is None else self.weight_by_schedule(progress)

    def to_pseudo_label(self, label: Tensor, trust: Tensor) -> PseudoLabel:
        """Turn what the loader gives into a target.

        Args:
            label: ``(B, 1, *S)`` int16 with -1 for no opinion, or ``(B, R, *S)`` bool for regions.
            trust: ``(B, 1, *S)`` in [0, 1]; below ``sam_trust_threshold`` a voxel is ignored.

        Returns:
            Target, and trust times the present maturity of the voxel's class. Regions carry theirs in the loss.
        """
        trust = trust * (trust >= self.config.sam_trust_threshold)
        if self.layout.has_regions:
            return PseudoLabel(label.float(), trust)
        classes = self.trainer.label_manager.num_segmentation_heads
        one_hot = torch.zeros((label.shape[0], classes, *label.shape[2:]), device=label.device)
        index = label.clamp(min=0).long()
        return PseudoLabel(one_hot.scatter_(1, index, 1.0), trust * self._maturity(label.device)[index])

    def _maturity(self, device: torch.device) -> Tensor:
        """Return how far each output channel may speak by now, ``(K,)``; the background waits for all classes."""
        class_trust = self.trainer.method.class_trust()
        if class_trust is None:
            return torch.ones(self.trainer.label_manager.num_segmentation_heads, device=device)
        return torch.tensor(class_trust, device=device)

    def loss(
        self, logits: Tensor | None, pseudo: PseudoLabel | None, progress: float
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Return the weighted SAM term and its log; ``None`` where SAM has nothing to say.

        Args:
            logits: The student's logits on the strong view, ``(B, K, *S)``.
            pseudo: The pseudo-label of the same voxels.
            progress: Fraction of the training done.
        """
        weight = self.weight(progress)
        if logits is None or pseudo is None or weight == 0:
            return None, {"sam": 0.0, "sam_weight": weight, "sam_weighted": 0.0, "sam_trusted": 0.0}
        # A class's maturity is in its voxels' trust; overlapping regions share voxels, so there it weighs channels.
        class_trust = torch.ones(logits.shape[1], device=logits.device)
        if self.layout.has_regions:
            class_trust = self._maturity(logits.device)
        raw = dice_and_cross_entropy(logits, pseudo.target, pseudo.trust, class_trust, self.layout.has_regions)
        log = {
            "sam": float(raw.detach()),
            "sam_weight": weight,
            "sam_trusted": float((pseudo.trust > 0).float().mean()),
        }
        return weight * raw, log | {"sam_weighted": weight * log["sam"]}
