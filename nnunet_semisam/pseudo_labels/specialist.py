"""The specialist's prediction of whole preprocessed cases: nnU-Net's own sliding window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from torch import Tensor, nn

from nnunet_semisam.context import TrainingContext
from nnunet_semisam.methods.parts.mirrored_opinion import IN_PLANE
from nnunet_semisam.methods.parts.networks import Finest, evaluating

VOXELS_AT_ONCE = 2**26  # of all channels: 256 MiB


class CasePredictor:
    """Predicts preprocessed images with one of the training's networks.

    Args:
        context: Gives plans, label manager and device.
        network: The network. It may be the student itself: its mode and its deep supervision stay as they are.
        tile_step: Step of the sliding window, as a share of the patch.
    """

    def __init__(self, context: TrainingContext, network: nn.Module, tile_step: float) -> None:
        self.label_manager = context.label_manager
        self.network = network
        self.predictor = nnUNetPredictor(
            tile_step_size=tile_step,
            use_gaussian=True,
            use_mirroring=False,  # four to eight times the cost; see mirrored()
            perform_everything_on_device=True,
            device=context.device,
            verbose=False,
            verbose_preprocessing=False,
            allow_tqdm=False,
        )
        self.predictor.manual_initialization(
            Finest(network),
            context.data.plans_manager,
            context.data.configuration_manager,
            None,
            context.data.dataset_json,
            "",
            None,
        )

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Tensor:
        """Return probabilities ``(K, Z, Y, X)`` in [0, 1] of an image ``(C, Z, Y, X)``."""
        with evaluating(self.network):
            logits = self.predictor.predict_sliding_window_return_logits(torch.from_numpy(np.ascontiguousarray(image)))
        return self._probabilities(logits)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities on the CPU, float32; some slices at a time, since the device need not hold them all."""
        found = torch.empty(logits.shape, dtype=torch.float32)
        count = max(1, VOXELS_AT_ONCE // math.prod((logits.shape[0], *logits.shape[2:])))
        for start in range(0, logits.shape[1], count):
            part = slice(start, start + count)
            found[:, part] = self.label_manager.apply_inference_nonlin(logits[:, part].float()).cpu()
        return found

    def mirrored(self, image: np.ndarray) -> Tensor:
        """Return probabilities of the same image, predicted upside down: mirrored along its last two axes at once.

        nnU-Net's augmentation mirrors along these axes, so a network knows such images. One prediction more.
        """
        return self(np.flip(image, IN_PLANE)).flip(IN_PLANE)


def count_windows(shape: Sequence[int], patch_size: Sequence[int], tile_step: float) -> int:
    """Return how many patches the sliding window takes for a volume ``(Z, Y, X)``, each slice alone in 2D."""
    slices = 1 if len(patch_size) == 3 else shape[0]
    covered = [max(s, p) for s, p in zip(shape[-len(patch_size) :], patch_size, strict=True)]
    steps = compute_steps_for_sliding_window(tuple(covered), tuple(patch_size), tile_step)
    return slices * math.prod(len(s) for s in steps)
