"""The only file that overrides nnU-Net's trainer hooks. Science is in ``methods/``, ``gate/``, ``generalists/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_semisam import __version__
from nnunet_semisam.data import augmenters
from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.data.unlabeled_loader import UnlabeledLoader
from nnunet_semisam.data.views import switch_off_benchmarks
from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.generalists.build import backend_of_settings
from nnunet_semisam.io.atomic import write_text
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods import METHODS, Host, SSLMethod
from nnunet_semisam.methods.parts.networks import unwrap
from nnunet_semisam.pseudo_labels import round_log
from nnunet_semisam.pseudo_labels.session import STORE_FOLDER, PseudoLabelSession
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings import Settings
from nnunet_semisam.settings import file as settings_file
from nnunet_semisam.splits.folds import Fold
from nnunet_semisam.training import checkpoint as checkpoints
from nnunet_semisam.training import method_state, resume, start
from nnunet_semisam.training.build_loader import (
    Augmentation,
    build_unlabeled_loader,
    cases_of_training,
    collect_unlabeled,
    oversampled_share,
)
from nnunet_semisam.training.build_session import build_session
from nnunet_semisam.training.build_step import StudentParts, build_step
from nnunet_semisam.training.compiling import compile_each_size_of_batch
from nnunet_semisam.training.cpu_speed import speed_up_on_cpu, take_asked_threads, warning_of_bfloat16
from nnunet_semisam.training.deployment import DeployedWeights
from nnunet_semisam.training.disk_errors import OTHER_RESULTS, disk_errors_for_users
from nnunet_semisam.training.epoch_lines import EpochTimes, semi_supervised_lines, time_line
from nnunet_semisam.training.initial_weights import load_initial_weights
from nnunet_semisam.training.nnunet_attributes import data_context, nnunet_checkpoint, training_context, world_size
from nnunet_semisam.training.optimisation import optimizer_like
from nnunet_semisam.training.partial_annotation import judge_annotation
from nnunet_semisam.training.progress_picture import PictureSetup
from nnunet_semisam.training.rank_log import RankLog
from nnunet_semisam.training.seeding import seed_everything
from nnunet_semisam.training.step import SemiSupervisedStep
from nnunet_semisam.training.step_watch import StepWatch
from nnunet_semisam.training.training_log import TrainingLog, mean_terms
from nnunet_semisam.training.training_summary import TrainingRecord, summary_lines
from nnunet_semisam.training.unseen_classes import leave_out_unseen_classes


class SemiSupervisedTrainer(nnUNetTrainer):
    """nnU-Net's trainer plus a stream of unlabeled patches.

    Subclasses set ``settings`` and override nothing. ``__init__`` must keep nnU-Net's five parameters: nnU-Net looks
    each name of our signature up in its own frame (nnUNetTrainer.py:115-117), so a sixth is a ``KeyError``.
    """

    settings: Settings = Settings()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        self._resumes = bool(plans.get("continue_training"))  # nnU-Net takes it out of the plans
        start.check_start(plans, configuration, device)
        if device.type == "cpu":
            take_asked_threads()
        with disk_errors_for_users("nnUNet_results", OTHER_RESULTS):
            super().__init__(plans, configuration, fold, dataset_json, device)
        self._use_settings(settings_file.from_environment(type(self).settings))
        self.method: SSLMethod | None = None
        self.gate: ClassGate | None = None
        self.semi_supervised_step: SemiSupervisedStep | None = None
        self.pseudo_labels: PseudoLabelSession | None = None
        self.dataloader_unlabeled: Any = None
        self.semisam_log = TrainingLog()
        self._conflict: dict[str, tuple[Any, Any]] = {}
        self._rank_log = RankLog(self.print_to_log_file, self.local_rank)
        self._watch = StepWatch(self._rank_log)
        self._rounds = checkpoints.RoundsInUse(self.print_to_log_file)
        self._resumed = ""  # name of the checkpoint that the training goes on from
        self._resumed_pseudo_labels: dict[str, Any] | None = None
        self._step = 0
        self._cases: Fold | None = None

    def _use_settings(self, settings: Settings) -> None:
        """Take over the settings that are nnU-Net's own attributes."""
        self._method_class = METHODS.get(settings.run.method)
        channels = len(channel_names(self.dataset_json))
        start.check_generalists_are_of_use(settings, self._method_class, channels)
        self.settings = settings
        self.num_epochs = settings.run.num_epochs
        self.num_iterations_per_epoch = settings.run.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.run.num_val_iterations_per_epoch
        self.initial_lr = settings.run.initial_lr
        self.weight_decay = settings.run.weight_decay
        self.save_every = settings.run.save_every

    # ------------------------------------------------------------------------------------------- building the parts

    @start.user_errors_on_stderr()
    def initialize(self) -> None:
        """Build nnU-Net's parts, then the method around its network."""
        if self.is_cascaded and self._method_class.uses_unlabeled:
            start.refuse_cascade(type(self).__name__, self.configuration_name)
        configuration, processes = self.configuration_manager, world_size(self)
        start.refuse_uneven_batch(configuration.batch_size, configuration.batch_dice, processes)
        seed_everything(self.settings.run.seed, rank=self.local_rank)
        if self._method_class.uses_unlabeled and self._do_i_compile():
            compile_each_size_of_batch()
        super().initialize()
        self._speed_up(self.network)
        if self._method_class.uses_unlabeled:
            self._build_method()

    def _build_method(self) -> None:
        host = Host(
            labels=Labels.from_label_manager(self.label_manager),
            build_network=self._build_network,
            supervised_loss=lambda network, labeled: self.semi_supervised_step.supervised_loss(network, labeled),
            optimizer_for=lambda parameters: optimizer_like(self.optimizer, parameters),
            build_sam=lambda name: backend_of_settings(name, self.settings, self.device),
            steps=self.num_epochs * self.num_iterations_per_epoch,
            image_channels=self.num_input_channels,
            spatial_dims=len(self.configuration_manager.patch_size),
        )
        planned = self.configuration_manager.batch_size
        oversampled = oversampled_share(self.settings, planned, self.local_rank, world_size(self))
        student = StudentParts(
            network=self.network,
            loss=self.loss,
            optimizer=self.optimizer,
            scaler=self.grad_scaler,
            device=self.device,
            random_share=1 - self.oversample_foreground_percent,
            unlabeled_random_share=1 - oversampled,
        )
        self.semi_supervised_step = build_step(self.settings, host, student)
        self.method, self.gate = self.semi_supervised_step.method, self.semi_supervised_step.unlabeled_pass.gate

    def _build_network(self, deep_supervision: bool = False) -> nn.Module:
        """Return a fresh network of the plans, compiled in place if the student is."""
        network = self.build_network_architecture(
            self.plans_manager,
            self.configuration_manager,
            self.num_input_channels,
            self.label_manager.num_segmentation_heads,
            deep_supervision and self.enable_deep_supervision,
        ).to(self.device)
        if self.is_ddp:  # as nnU-Net does with its own
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        if self._do_i_compile():
            network.compile()
        self._speed_up(network)
        return network

    def _speed_up(self, network: nn.Module) -> None:
        if self.device.type == "cpu" and not self.is_ddp:  # DDP has laid out its gradients before
            speed_up_on_cpu(network, self.settings.run.cpu_bfloat16)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """Return nnU-Net's augmentation; reproducible if the run is seeded."""
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        if self.settings.run.seed is not None:
            switch_off_benchmarks(transforms)
        return transforms

    def fold_cases(self) -> Fold:
        """Return the checked train, val and unlabeled cases of this fold."""
        if self._cases is None:  # read once, so that what it warns of is told once
            self._cases = cases_of_training(data_context(self), self.fold, self.settings)
        return self._cases

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
        labeled = self.dataset_class(self.preprocessed_dataset_folder, self.fold_cases().train)
        leave_out_unseen_classes(labeled, self.fold, self.label_manager, self.gate, self.print_to_log_file)
        patch_size = self.configuration_manager.patch_size
        sizes = (self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[2], patch_size)
        judge_annotation(labeled, self.label_manager, self.gate, sizes, self.print_to_log_file)
        training, validation, self.dataloader_unlabeled = augmenters.start_both(
            super().get_dataloaders,
            self._build_unlabeled_loader(),
            pin_memory=self.device.type == "cuda",
            log=self._rank_log,
        )
        return training, validation

    def _build_unlabeled_loader(self) -> UnlabeledLoader:
        fold = self.fold_cases()
        context = training_context(self, self.settings, fold)
        pool = collect_unlabeled(context.data, fold)
        self.print_to_log_file(f"{len(pool)} unlabeled cases.")
        reader = None
        if self.settings.run.use_sam:
            specialist = self.method.prompting_network(unwrap(self.network))
            self.pseudo_labels = build_session(context, pool, specialist, self.gate, self._resumed_pseudo_labels)
            self.semi_supervised_step.unlabeled_pass.pseudo_labels = self.pseudo_labels.term
            reader = self.pseudo_labels.reader
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        transforms = self.get_training_transforms(
            self.configuration_manager.patch_size, rotation, None, mirror_axes, dummy_2d
        )
        augmentation = Augmentation(transforms, initial_patch_size)
        return build_unlabeled_loader(context, pool, augmentation, self.method.strong_views, reader)

    # ------------------------------------------------------------------------------------------------- the training

    def run_training(self) -> None:
        """Train as nnU-Net does; stop all workers on every way out but a signal that kills."""
        alone = start.alone_in(Path(self.output_folder), self.local_rank)
        try:
            with start.user_errors_on_stderr(), disk_errors_for_users(self.output_folder), alone:
                super().run_training()
        finally:
            for augmenter in (self.dataloader_unlabeled, self.dataloader_train, self.dataloader_val):
                augmenters.finish(augmenter)

    def on_train_start(self) -> None:
        """Check what can be checked, then start loaders and write the settings beside the results."""
        start.refuse_changed_settings(self._conflict)
        if not self.was_initialized:
            self.initialize()
        if self.local_rank == 0:
            checkpoints.remove_leftovers(Path(self.output_folder))
        said = start.where_it_begins(Path(self.output_folder), self._resumed, self.current_epoch, self.num_epochs)
        slow = warning_of_bfloat16() if self.settings.run.cpu_bfloat16 and self.device.type == "cpu" else None
        for line in filter(None, (said, slow)):
            self.print_to_log_file(line)
        if self.local_rank == 0 and not self._resumed:
            round_log.remove(Path(self.output_folder))
            PseudoLabelStore(Path(self.output_folder) / STORE_FOLDER).clear()
        seed_everything(self.settings.run.seed, self.current_epoch, self.local_rank)
        if self.settings.run.initial_weights is not None and not self._resumed:
            load_initial_weights(unwrap(self.network), self.settings.run.initial_weights)
        super().on_train_start()
        if self.method is not None and not self._resumed:
            self.method.on_train_start(unwrap(self.network))
        changed = settings_file.dump_changed(self.settings)
        path = Path(self.output_folder) / "semisam_config.yaml"
        self.print_to_log_file(f"Settings that differ from the defaults (all: {path}):\n{changed}", add_timestamp=False)
        if self.local_rank == 0:
            write_text(path, settings_file.dump(self.settings))

    def on_epoch_start(self) -> None:
        """Prompt generalists between epochs, never inside a step."""
        super().on_epoch_start()
        if self.pseudo_labels is not None:
            self.pseudo_labels.maybe_refresh(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Count steps from the start of the epoch; let the method's optimisers follow nnU-Net's learning rate."""
        super().on_train_epoch_start()
        self._step = 0
        if self.semi_supervised_step is not None:
            self.semi_supervised_step.optimisation.follow_decay(self.optimizer.param_groups[0]["lr"] / self.initial_lr)

    @property
    def progress(self) -> float:
        """Fraction of the training that is done, in [0, 1]."""
        return (self.current_epoch + self._step / self.num_iterations_per_epoch) / self.num_epochs

    def train_step(self, batch: dict) -> dict:
        """Take one optimiser step; see :mod:`nnunet_semisam.training.step`."""
        if self.method is None:
            return super().train_step(batch)
        unlabeled = next(self.dataloader_unlabeled) if self.semi_supervised_step.needs_unlabeled(self.progress) else {}
        self._watch.tell_damaged(unlabeled.pop("damaged", {}))
        log = self.semi_supervised_step(batch, unlabeled or None, self.progress)
        self._watch.count(log, [*batch.get("keys", ()), *unlabeled.get("keys", ())])
        self._step += 1
        return log

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log nnU-Net's loss, then every term of ours."""
        super().on_train_epoch_end(train_outputs)
        if self.method is None:
            return
        self._watch.end_epoch()
        self._rank_log.end_epoch()
        terms = mean_terms(train_outputs)
        self.semisam_log.add(self.current_epoch, terms)
        if self.local_rank == 0:
            folder = Path(self.output_folder)
            for sentence in self.semisam_log.write(folder, PictureSetup.of(self.gate, folder)):
                self.print_to_log_file(sentence)
            for logger in self.logger.loggers:  # W&B, if it is switched on; nnU-Net's local one is not in this list
                for name, value in terms.items():
                    logger.log(f"semisam/{name}", value, self.current_epoch)

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net does, then say in plain words where the training stands."""
        epoch = self.current_epoch
        super().on_epoch_end()
        if self.local_rank != 0:
            return
        if self.method is not None:
            driver, terms = self.semi_supervised_step.unlabeled_pass, self.semisam_log.rows[-1]
            for line in semi_supervised_lines(driver, self.pseudo_labels, terms, epoch, self.num_epochs):
                self.print_to_log_file(line)
        self.print_to_log_file(time_line(self._times(), self.num_epochs, self.pseudo_labels))

    def _times(self) -> EpochTimes:
        starts, ends = (self.logger.get_value(f"epoch_{name}_timestamps", None) for name in ("start", "end"))
        return EpochTimes(starts, ends)

    def on_train_end(self) -> None:
        """Write the final checkpoint, then sum the training up."""
        super().on_train_end()
        if self.local_rank != 0:
            return
        record = TrainingRecord.at_end(self.semisam_log.rows, sum(self._times().seconds), self.pseudo_labels)
        for line in summary_lines(self.settings.run.method, self.gate, record):
            self.print_to_log_file(line, add_timestamp=False)

    # ------------------------------------------------------------------------------- validation and checkpoints

    def on_validation_epoch_start(self) -> None:
        """Validate the weights that will be deployed: ``checkpoint_best`` must speak of the model in it."""
        super().on_validation_epoch_start()
        self._deployment = DeployedWeights(unwrap(self.network), self.method)
        self._deployment.put()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log nnU-Net's online validation, then go on with the student."""
        super().on_validation_epoch_end(val_outputs)
        self._deployment.restore()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate the deployed weights on whole cases, as nnU-Net does."""
        with DeployedWeights(unwrap(self.network), self.method):
            super().perform_actual_validation(save_probabilities)

    def save_checkpoint(self, filename: str) -> None:
        """Write nnU-Net's checkpoint with the deployed weights, and all that is needed to go on in ``semisam``."""
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        if self.method is not None:
            states = method_state.network_states(self.semi_supervised_step)
            checkpoints.refuse_diverged(states, Path(filename), self.current_epoch)
        deployed = DeployedWeights(unwrap(self.network), self.method).deployed
        checkpoints.save(nnunet_checkpoint(self, deployed), self._semisam_entry(), Path(filename))
        if self.pseudo_labels is not None:
            self.pseudo_labels.keep_rounds(self._rounds.named_in(Path(self.output_folder)))

    def _semisam_entry(self) -> dict[str, Any]:
        entry = {
            "version": __version__,
            "settings": self.settings.to_dict(),
            "settings_sha256": self.settings.sha256,
            "log": self.semisam_log.state_dict(),
            "pseudo_labels": None if self.pseudo_labels is None else self.pseudo_labels.state_dict(),
        }
        return entry if self.method is None else entry | method_state.method_entry(self.semi_supervised_step)

    @start.user_errors_on_stderr()
    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restore a training: student, method, gate, log, settings and the round of pseudo-labels.

        Raises:
            UserError: If the file was written by a trainer without a ``semisam`` entry, or by another trainer, whose
                settings would silently become those of this one; or if it is damaged, and so are the others of this
                training.
        """
        path, wanted = Path(filename_or_checkpoint), self.settings
        if self._resumes:
            resume.load_newest(path, lambda other: self._load(other, wanted), self.print_to_log_file)
        else:  # a validation must not take another model without a word
            self._load(path, wanted)

    def _load(self, path: Path, wanted: Settings) -> None:
        entry = resume.read_entry(path, self.device, type(self).__name__)
        written_by = resume.written_by(path, entry)
        stored = Settings().replace(entry["settings"], written_by)
        self._conflict = stored.differences(wanted) if settings_file.is_given() else {}
        self._use_settings(stored)
        with resume.misfit_is_damage(written_by):
            self._restore(path, entry)
        if entry["version"] != __version__:
            self.print_to_log_file(f"WARNING: The checkpoint is of another version: {written_by}.")

    def _restore(self, path: Path, entry: dict[str, Any]) -> None:
        super().load_checkpoint(str(path))
        if type(self.current_epoch) is not int or self.current_epoch < 0:
            raise ValueError(f"current_epoch is {self.current_epoch!r}")
        self.semisam_log.load_state_dict(entry["log"])
        self._resumed = path.name
        self._resumed_pseudo_labels = entry["pseudo_labels"]  # not the entry: its weights would stay on the device
        if self.method is not None:
            method_state.restore_method(entry, self.semi_supervised_step)
            remedy = "The training that wrote it had diverged, or the file is damaged."
            checkpoints.check_weights(method_state.network_states(self.semi_supervised_step), path, remedy)
