"""The network's opinion on whole preprocessed cases: nnU-Net's own sliding window, without mirroring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from torch import Tensor, nn

if TYPE_CHECKING:
    from nnunet_semisam.training.trainer import SemiSupervisedTrainer

TILE_STEP = 0.5  # nnU-Net's default overlap


class CasePredictor:
    """Predicts preprocessed images with one of the training's networks.

    Args:
        trainer: Gives plans, label manager and device.
        network: The network to ask, deep supervision off.
    """

    def __init__(self, trainer: SemiSupervisedTrainer, network: nn.Module) -> None:
        self.label_manager = trainer.label_manager
        self.network = network
        self.predictor = nnUNetPredictor(
            tile_step_size=TILE_STEP,
            use_gaussian=True,
            use_mirroring=False,  # four to eight times the cost, for a label that is replaced soon
            perform_everything_on_device=True,
            device=trainer.device,
            verbose=False,
            verbose_preprocessing=False,
            allow_tqdm=False,
        )
        self.predictor.manual_initialization(
            network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json, "", None
        )

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Tensor:
        """Return probabilities ``(K, Z, Y, X)`` in [0, 1] of an image ``(C, Z, Y, X)``."""
        self.network.eval()
        logits = self.predictor.predict_sliding_window_return_logits(torch.from_numpy(np.ascontiguousarray(image)))
        return self.label_manager.apply_inference_nonlin(logits.float().cpu())


def count_windows(shape: Sequence[int], patch_size: Sequence[int]) -> int:
    """Return how many patches the sliding window takes for a volume ``(Z, Y, X)``, each slice alone in 2D."""
    slices = 1 if len(patch_size) == 3 else shape[0]
    covered = [max(s, p) for s, p in zip(shape[-len(patch_size) :], patch_size, strict=True)]
    steps = compute_steps_for_sliding_window(tuple(covered), tuple(patch_size), TILE_STEP)
    return slices * math.prod(len(s) for s in steps)
