"""What everything else gets of nnU-Net's trainer: its attributes as our objects, and as nnU-Net's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_semisam.context import DataContext, TrainingContext
from nnunet_semisam.labels import Labels
from nnunet_semisam.settings import Settings
from nnunet_semisam.splits.folds import Fold


def data_context(trainer: nnUNetTrainer) -> DataContext:
    """Return the data of a training."""
    return DataContext(
        preprocessed_dataset=Path(trainer.preprocessed_dataset_folder_base),
        plans_manager=trainer.plans_manager,
        configuration_manager=trainer.configuration_manager,
        configuration_name=trainer.configuration_name,
        dataset_json=trainer.dataset_json,
        log=trainer.print_to_log_file,
    )


def training_context(trainer: nnUNetTrainer, settings: Settings, fold: Fold) -> TrainingContext:
    """Return a training as everything within it sees it.

    Args:
        trainer: Initialised.
        settings: Of the training.
        fold: Its cases; the labels of those for training are opened, and no others.
    """
    return TrainingContext(
        settings=settings,
        data=data_context(trainer),
        labels=Labels.from_label_manager(trainer.label_manager),
        label_manager=trainer.label_manager,
        labeled_dataset=trainer.dataset_class(trainer.preprocessed_dataset_folder, fold.train),
        output_folder=Path(trainer.output_folder),
        device=trainer.device,
        batch_size=trainer.batch_size,
        rank=trainer.local_rank,
        world_size=world_size(trainer),
    )


def nnunet_checkpoint(trainer: nnUNetTrainer, deployed: nn.Module) -> dict[str, Any]:
    """Return what nnU-Net 2.8.1 writes.

    Args:
        trainer: Initialised.
        deployed: The network whose weights become ``network_weights``.
    """
    return {
        "network_weights": deployed.state_dict(),
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
        "logging": trainer.logger.get_checkpoint(),
        "_best_ema": trainer._best_ema,
        "current_epoch": trainer.current_epoch + 1,
        "init_args": trainer.my_init_kwargs,
        "trainer_name": type(trainer).__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
    }


def world_size(trainer: Any) -> int:
    """Return how many processes train together; 1 without DDP."""
    return torch.distributed.get_world_size() if trainer.is_ddp else 1
