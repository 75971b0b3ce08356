"""The only file that overrides nnU-Net's trainer hooks. Science lives in ``methods/``, ``sam/`` and ``prompts/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.collate_outputs import collate_outputs
from torch import nn

from nnunet_semisam.data import augmenters
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import switch_off_benchmarks
from nnunet_semisam.errors import UserError
from nnunet_semisam.methods import METHODS, SSLMethod
from nnunet_semisam.methods.parts.ema import unwrap
from nnunet_semisam.settings import file as settings_file
from nnunet_semisam.settings.config import SemiSAMConfig
from nnunet_semisam.splits.cases_of_fold import cases_of_fold
from nnunet_semisam.splits.folds import Fold
from nnunet_semisam.training import checkpoint as checkpoints
from nnunet_semisam.training.build_loader import build_unlabeled_loader, collect_unlabeled
from nnunet_semisam.training.cpu_speed import use_bfloat16_on_cpu
from nnunet_semisam.training.deployment import DeployedWeights
from nnunet_semisam.training.seeding import seed_everything
from nnunet_semisam.training.step import semi_supervised_step
from nnunet_semisam.training.training_log import TrainingLog

if TYPE_CHECKING:
    from nnunet_semisam.pseudo_labels.session import PseudoLabelSession

NO_METHOD = "none"


class SemiSupervisedTrainer(nnUNetTrainer):
    """nnU-Net's trainer plus a stream of unlabeled patches.

    Subclasses set ``config`` and override nothing. ``__init__`` must keep nnU-Net's five parameters: nnU-Net looks
    each name of our signature up in its own frame (nnUNetTrainer.py:115-117), so a sixth is a ``KeyError``.
    """

    config: SemiSAMConfig = SemiSAMConfig()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self._use_config(settings_file.from_environment(type(self).config))
        self.method: SSLMethod | None = None
        self.pseudo_labels: PseudoLabelSession | None = None
        self.dataloader_unlabeled: Any = None
        self.semisam_log = TrainingLog()
        self._conflict: dict[str, tuple[Any, Any]] = {}
        self._resumed = False
        self._resumed_pseudo_labels: dict[str, Any] | None = None
        self._step = 0

    def _use_config(self, config: SemiSAMConfig) -> None:
        """Take over the settings that are nnU-Net's own attributes."""
        self.config = config
        self.num_epochs = config.num_epochs
        self.num_iterations_per_epoch = config.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = config.num_val_iterations_per_epoch
        self.initial_lr = config.initial_lr
        self.save_every = config.save_every

    # ------------------------------------------------------------------------------------------- building the parts

    def initialize(self) -> None:
        """Build nnU-Net's parts, then the method around its network."""
        semi_supervised = self.config.method != NO_METHOD
        if self.is_cascaded and semi_supervised:
            raise NotImplementedError(
                f"{type(self).__name__} cannot train {self.configuration_name}: nnU-Net writes the predictions of the "
                "previous stage for labeled cases only. Train 3d_fullres, 3d_lowres or 2d."
            )
        seed_everything(self.config.seed, rank=self.local_rank)
        super().initialize()
        if self._computes_in_bfloat16:
            use_bfloat16_on_cpu(self.network)
        if semi_supervised:
            heads = self.label_manager.num_segmentation_heads
            self.method = METHODS.get(self.config.method)(self.config, heads, self.label_manager.has_regions)
            self.method.setup(unwrap(self.network), self._build_plain_network)

    def _build_plain_network(self) -> nn.Module:
        """Return a fresh network of the plans without deep supervision, compiled in place if the student is."""
        network = self.build_network_architecture(
            self.plans_manager,
            self.configuration_manager,
            self.num_input_channels,
            self.label_manager.num_segmentation_heads,
            False,
        ).to(self.device)
        if self._do_i_compile():
            network.compile()
        if self._computes_in_bfloat16:
            use_bfloat16_on_cpu(network)
        return network

    @property
    def _computes_in_bfloat16(self) -> bool:
        return self.config.cpu_bfloat16 and self.device.type == "cpu"

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """Return nnU-Net's augmentation; reproducible if the run is seeded."""
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        if self.config.seed is not None:
            switch_off_benchmarks(transforms)
        return transforms

    def fold_cases(self) -> Fold:
        """Return the checked train, val and unlabeled cases of this fold."""
        return cases_of_fold(
            Path(self.preprocessed_dataset_folder_base),
            Path(self.preprocessed_dataset_folder),
            self.fold,
            self.configuration_manager,
            self.print_to_log_file,
        )

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return train and val cases; unlike nnU-Net, refuse a fold that is not in the file."""
        fold = self.fold_cases()
        self.print_to_log_file(
            f"Fold {self.fold}: {len(fold.train)} labeled training cases, {len(fold.val)} validation cases, "
            f"{len(fold.unlabeled)} cases whose labels are hidden."
        )
        return fold.train, fold.val

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Start nnU-Net's loaders and the unlabeled one, together within nnU-Net's number of workers."""
        if self.method is None:
            return super().get_dataloaders()
        loader = self._build_unlabeled_loader()
        with augmenters.labeled_share() as num_workers:
            labeled, validation = super().get_dataloaders()
        try:
            pin_memory = self.device.type == "cuda"
            self.dataloader_unlabeled = augmenters.start_augmenter(loader, num_workers, pin_memory)
        except BaseException:
            augmenters.finish(labeled)
            augmenters.finish(validation)
            raise
        return labeled, validation

    def _build_unlabeled_loader(self) -> UnlabeledLoader:
        pool = collect_unlabeled(self)
        self.print_to_log_file(f"{len(pool)} unlabeled cases.")
        if self.config.use_sam:
            from nnunet_semisam.pseudo_labels.session import PseudoLabelSession  # loads segment-anything

            self.pseudo_labels = PseudoLabelSession(self, pool)
            if self._resumed_pseudo_labels is not None:
                self.pseudo_labels.load_state_dict(self._resumed_pseudo_labels)
        return build_unlabeled_loader(self, pool)

    # ------------------------------------------------------------------------------------------------- the training

    def run_training(self) -> None:
        """Train as nnU-Net does; stop all workers on every way out."""
        try:
            super().run_training()
        finally:
            for augmenter in (self.dataloader_unlabeled, self.dataloader_train, self.dataloader_val):
                augmenters.finish(augmenter)

    def on_train_start(self) -> None:
        """Check what can be checked, then start loaders and write the settings beside the results."""
        if self._conflict:
            changed = "; ".join(
                f"{k}: {there!r} in the checkpoint, {here!r} now" for k, (there, here) in self._conflict.items()
            )
            raise UserError(
                f"The settings changed since this training began ({changed}). Unset {settings_file.VARIABLE} to go on "
                "with the settings of the checkpoint, or start a new training without --c."
            )
        if not self.was_initialized:
            self.initialize()
        checkpoints.remove_leftovers(Path(self.output_folder))
        seed_everything(self.config.seed, self.current_epoch, self.local_rank)
        super().on_train_start()
        if self.method is not None and not self._resumed:
            self.method.on_train_start(unwrap(self.network))
        text = settings_file.dump(self.config)
        self.print_to_log_file(f"Settings of nnunet-semisam:\n{text}", add_timestamp=False)
        if self.local_rank == 0:
            (Path(self.output_folder) / "semisam_config.yaml").write_text(text)

    def on_epoch_start(self) -> None:
        """Ask SAM between epochs, never inside a step."""
        super().on_epoch_start()
        if self.pseudo_labels is not None:
            self.pseudo_labels.maybe_refresh(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Count steps from the start of the epoch."""
        super().on_train_epoch_start()
        self._step = 0

    @property
    def progress(self) -> float:
        """Fraction of the training that is done, in [0, 1]."""
        return (self.current_epoch + self._step / self.num_iterations_per_epoch) / self.num_epochs

    def train_step(self, batch: dict) -> dict:
        """Take one optimiser step; see :mod:`nnunet_semisam.training.step`."""
        if self.method is None:
            return super().train_step(batch)
        log = semi_supervised_step(self, batch, next(self.dataloader_unlabeled))
        self._step += 1
        return log

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log nnU-Net's loss, then every term of ours."""
        super().on_train_epoch_end(train_outputs)
        if self.method is None:
            return
        terms = {name: float(np.nanmean(values)) for name, values in collate_outputs(train_outputs).items()}
        if self.is_ddp:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, terms)
            terms = {name: float(np.nanmean([other[name] for other in gathered])) for name in terms}
        self.semisam_log.add(self.current_epoch, terms)
        if self.local_rank == 0:
            self.semisam_log.write(Path(self.output_folder))
            for logger in self.logger.loggers:  # W&B, if it is switched on; nnU-Net's local one is not in this list
                for name, value in terms.items():
                    logger.log(f"semisam/{name}", value, self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} {value:.4g}" for name, value in terms.items()))

    # ------------------------------------------------------------------------------- validation and checkpoints

    def on_validation_epoch_start(self) -> None:
        """Validate the weights that will be deployed: ``checkpoint_best`` must speak of the model in it."""
        super().on_validation_epoch_start()
        if self.method is not None:
            self._deployment = DeployedWeights(unwrap(self.network), self.method)
            self._deployment.put()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log nnU-Net's online validation, then go on with the student."""
        super().on_validation_epoch_end(val_outputs)
        if self.method is not None:
            self._deployment.restore()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate the deployed weights on whole cases, as nnU-Net does."""
        if self.method is None:
            super().perform_actual_validation(save_probabilities)
            return
        with DeployedWeights(unwrap(self.network), self.method):
            super().perform_actual_validation(save_probabilities)

    def save_checkpoint(self, filename: str) -> None:
        """Write nnU-Net's checkpoint with the deployed weights, and all that is needed to go on in ``semisam``."""
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        checkpoints.save_atomically(checkpoints.contents(self), Path(filename))
        if self.pseudo_labels is not None:
            self.pseudo_labels.keep_rounds_of_checkpoints()

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restore a training: student, teacher, method, log, settings and the round of pseudo-labels.

        Raises:
            UserError: If the file was written by a trainer without a ``semisam`` entry.
        """
        path = Path(filename_or_checkpoint)
        entry = checkpoints.read_entry(path, self.device)
        if entry is None:
            raise UserError(
                f"{path} was not written by {type(self).__name__}. Use it with -pretrained_weights instead."
            )
        stored = SemiSAMConfig().replace(entry["config"], str(path))
        if settings_file.is_given():
            self._conflict = stored.differences(self.config)
        self._use_config(stored)
        super().load_checkpoint(str(path))
        self.semisam_log.load_state_dict(entry["log"])
        self._resumed, self._resumed_pseudo_labels = True, entry["pseudo_labels"]
        if self.method is not None:
            unwrap(self.network).load_state_dict(entry["student"])
            self.method.load_state_dict(entry["method"])
            for optimizer, state in zip(self.method.optimizers(), entry["optimizers"], strict=True):
                optimizer.load_state_dict(state)
