"""What a training is, for everything that works within it: one object instead of the trainer itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam.labels import Labels
from nnunet_semisam.settings import Settings


@dataclass(frozen=True)
class DataContext:
    """The preprocessed data of one configuration.

    Attributes:
        preprocessed_dataset: ``$nnUNet_preprocessed/DATASET``.
        plans_manager: nnU-Net's plans.
        configuration_manager: The plans of the configuration.
        configuration_name: ``2d``, ``3d_fullres``, ...
        dataset_json: Content of ``dataset.json``.
        log: Receives lines for the user.
    """

    preprocessed_dataset: Path
    plans_manager: Any
    configuration_manager: Any
    configuration_name: str
    dataset_json: dict[str, Any]
    log: Callable[[str], Any] = field(default=print)

    @property
    def data_identifier(self) -> str:
        """Return nnU-Net's name of the preprocessed data, for example ``nnUNetPlans_3d_fullres``."""
        return self.configuration_manager.data_identifier

    @property
    def patch_size(self) -> list[int]:
        """Return the size of a training patch: two numbers for 2D configurations, else three."""
        return [int(size) for size in self.configuration_manager.patch_size]


@dataclass(frozen=True)
class TrainingContext:
    """One training: its settings, data, device and place.

    Attributes:
        settings: The settings of the run.
        data: The preprocessed data.
        labels: What the network's output channels mean.
        label_manager: nnU-Net's, for what only it can do.
        labeled_dataset: nnU-Net's preprocessed dataset, opened with the fold's labeled training cases only.
        output_folder: Folder of the fold, where checkpoints and logs go.
        device: Where the network computes.
        batch_size: Labeled patches in a step on this device.
        rank: Number of this process.
        world_size: How many processes train together; 1 without DDP.
    """

    settings: Settings
    data: DataContext
    labels: Labels
    label_manager: Any
    labeled_dataset: Any
    output_folder: Path
    device: torch.device
    batch_size: int
    rank: int = 0
    world_size: int = 1

    @property
    def log(self) -> Callable[[str], Any]:
        """Return what receives lines for the training log."""
        return self.data.log
