"""The teacher of a round: a trained model that predicts raw images as ``nnUNetv2_predict`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_semisam.runs.model_run import CHECKPOINT, ModelRun
from nnunet_semisam.self_training.pseudo_label import agreement

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What a teacher says of a raw image.

    Attributes:
        label_map: ``(Z, Y, X)``, as nnU-Net's reader gives the axes.
        probabilities: ``(K, Z, Y, X)``.
        agreement: Of the predictions with and without mirroring, at the spacing of the plans; ``None`` if the teacher
            does not mirror, or both are background only.
        properties: What nnU-Net's reader and preprocessor said about the image.
        image: The preprocessed image, ``(C, *S)``, float32.
        logits: What the network says of it, with mirroring if the teacher does, ``(K, *S)``, on the CPU.
    """

    label_map: np.ndarray
    probabilities: np.ndarray
    agreement: float | None
    properties: dict[str, Any]
    image: np.ndarray
    logits: Tensor


class Teacher:
    """A trained model that predicts raw images as ``nnUNetv2_predict`` does.

    Args:
        model: The model.
        device: ``cuda``, ``cpu`` or ``mps``.
        mirroring: Whether to predict with mirroring; a network that was trained without never is.

    Attributes:
        model: What predicts.

    Raises:
        UserError: If its checkpoint is damaged or holds more than weights, or its network is none of nnU-Net's library.
    """

    def __init__(self, model: ModelRun, device: str, mirroring: bool) -> None:
        from nnunet_semisam.runs.raw_images import ModelPlace, RawImagePredictor

        self.model = RawImagePredictor(
            ModelPlace(model.model_folder, (str(model.fold),), CHECKPOINT), device, mirroring
        )

    @property
    def mirrors(self) -> bool:
        """Whether it predicts with mirroring."""
        return bool(self.model.mirror_axes)

    def predict(self, images: Sequence[str]) -> Prediction:
        """Predict a raw image.

        Raises:
            UserError: If it cannot be read or preprocessed, or has other channels than those of the training.
        """
        import torch
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        model = self.model
        label_manager = model.predictor.label_manager
        case = model.read(images)
        logits = model.logits(case)
        agreed = None
        if self.mirrors:
            pair = (logits, model.logits(case, mirroring=False))
            first, second = (np.asarray(label_manager.convert_logits_to_segmentation(each)) for each in pair)
            agreed = agreement(first, second, model.labels)
        label_map, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            model.plans,
            model.configuration,
            label_manager,
            case.properties,
            return_probabilities=True,
            num_threads_torch=torch.get_num_threads(),
        )
        return Prediction(label_map, probabilities, agreed, case.properties, case.image.numpy(), logits)
