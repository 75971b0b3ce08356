"""The teacher of a round: a trained model that predicts raw images as ``nnUNetv2_predict`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_semisam.data.image_headers import check_image_file, reason
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.tensor_files import loading_only_tensors
from nnunet_semisam.labels import Labels
from nnunet_semisam.model_export import check_weights, read_checkpoint
from nnunet_semisam.runs.model_run import CHECKPOINT, ModelRun
from nnunet_semisam.self_training.pseudo_label import agreement

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
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

    Raises:
        UserError: If its checkpoint is damaged or holds more than weights, or its network is none of nnU-Net's library.
    """

    def __init__(self, model: ModelRun, device: str, mirroring: bool) -> None:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.predictor: nnUNetPredictor = nnUNetPredictor(
            use_mirroring=mirroring, device=torch.device(device), allow_tqdm=False
        )
        file = model.model_folder / f"fold_{model.fold}" / CHECKPOINT
        check_weights(model.model_folder, read_checkpoint(file), file)  # the folder may have come from somebody else
        with loading_only_tensors():
            self.predictor.initialize_from_trained_model_folder(str(model.model_folder), (model.fold,), CHECKPOINT)
        self.mirrors = mirroring and bool(self.predictor.allowed_mirroring_axes)
        self.labels = Labels.from_label_manager(self.predictor.label_manager)

    def predict(self, images: Sequence[str]) -> Prediction:
        """Predict a raw image.

        Raises:
            UserError: If it cannot be read or preprocessed.
        """
        import torch
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        for image in images:
            check_image_file(image)
        predictor = self.predictor
        plans, configuration = predictor.plans_manager, predictor.configuration_manager
        preprocessor = configuration.preprocessor_class(verbose=False)
        try:
            data, _, properties = preprocessor.run_case(
                list(images), None, plans, configuration, predictor.dataset_json
            )
        except Exception as error:  # every reader raises its own kinds
            raise UserError(f"{', '.join(images)} cannot be read: {reason(error)}. Fix or remove it.") from error
        image = torch.from_numpy(data)
        logits = self._logits(image, self.mirrors)
        agreed = None
        if self.mirrors:
            pair = (logits, self._logits(image, False))
            first, second = (np.asarray(predictor.label_manager.convert_logits_to_segmentation(each)) for each in pair)
            agreed = agreement(first, second, self.labels)
        label_map, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            plans,
            configuration,
            predictor.label_manager,
            properties,
            return_probabilities=True,
            num_threads_torch=torch.get_num_threads(),
        )
        return Prediction(label_map, probabilities, agreed, properties, np.asarray(data), logits)

    def _logits(self, image: Tensor, mirroring: bool) -> Tensor:
        """Return what the network says of a preprocessed image ``(C, *S)``: ``(K, *S)``, on the CPU."""
        self.predictor.use_mirroring = mirroring
        return self.predictor.predict_logits_from_preprocessed_data(image).cpu()
