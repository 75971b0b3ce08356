"""What SAMs add to a teacher's label of a raw image.

The stage of pseudo-labels (``pseudo_labels/``) works on preprocessed images, which a SAM's embeddings are of, and so
does the fusion: label and confidence are brought back to the raw image, as ``pseudo-labels export`` does it. To bring
back what is fused instead (four maps per class) would cost more, and change voxels at borders only, where confidence is
low and the label mostly becomes ``ignore``. The teacher's own label is made on the raw image, as nnU-Net does it.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes or regions,
``Z, Y, X`` the axes of the preprocessed or, where it is said, the raw image.
"""

from __future__ import annotations

import numpy as np
import torch

from nnunet_semisam.adaptation.calibrate import fingerprints_of, stage_of_fold
from nnunet_semisam.data.back_to_raw import back_to_raw
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import CasePrediction
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.pseudo_labels.fusion import contributes
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage
from nnunet_semisam.self_training.calibration_record import CALIBRATION_FILE, RoundCalibration
from nnunet_semisam.self_training.pseudo_label import SAMOpinion
from nnunet_semisam.self_training.rounds import RoundOfFold, SAMUse
from nnunet_semisam.self_training.sam_calibration import (
    as_trained,
    calibration_for,
    geometry_source,
    original_fold,
    sam_settings,
)
from nnunet_semisam.self_training.teacher import Prediction, Teacher


class SAMLabeller:
    """Asks SAMs about cases of the pool, with the weights that the calibration of the round gives them.

    Where no SAM helps in any class, none is loaded.

    Args:
        place: Round and fold whose pool is labeled.
        teacher: The teacher of the round.
        checkpoint_sha256: Digest of its checkpoint.
        device: ``cuda``, ``cpu`` or ``mps``.

    Attributes:
        use: What the record of a pseudo-label says of the SAMs.
        active: Which foreground channels a SAM contributes to, ``F`` entries.

    Raises:
        UserError: If the calibration is missing or of another network or SAM, or a SAM cannot be loaded.
    """

    def __init__(self, place: RoundOfFold, teacher: Teacher, checkpoint_sha256: str, device: str) -> None:
        self.teacher = teacher
        settings, calibration = sam_settings(place), calibration_for(place, checkpoint_sha256)
        self.use = SAMUse(
            models=calibration.models,
            fingerprints=calibration.fingerprints,
            class_weights=calibration.class_weights,
            confidence_threshold=settings.block("sam").confidence_threshold,
            calibration_sha256=sha256_of(place.folder / CALIBRATION_FILE),
        )
        self.active = [False] * teacher.model.labels.channels
        self._stage: PseudoLabelStage | None = None
        if calibration.active:
            data = original_fold(place)
            self._stage = stage_of_fold(
                data,
                as_trained(place, teacher),
                settings,
                torch.device(device),
                data.labeled.load_image,
                geometry_of=geometry_source(data),
            )
            _use(self._stage, calibration, place)
            self.active = [weight > 0 for weight in self._stage.ensemble.weights.weight]

    def opinion(self, case: str, found: Prediction) -> SAMOpinion | None:
        """Return what SAMs and teacher say together of a case of the pool; ``None`` if no SAM helps in any class.

        Args:
            case: Name of the case.
            found: What the teacher says.

        Raises:
            UserError: If a prediction is not finite.
        """
        if self._stage is None:
            return None
        pipeline, model = self._stage.pipeline, self.teacher.model
        _, second = pipeline.predict_twice(case, found.image)
        specialist = np.asarray(model.predictor.label_manager.apply_inference_nonlin(found.logits), dtype=np.float32)
        outcome = pipeline.fused(case, found.image, specialist, second).outcome
        asked = where_asked(outcome.result.prediction, self._stage.ensemble.weights)

        def to_raw(values: np.ndarray, is_label: bool) -> np.ndarray:
            return back_to_raw(values, found.properties, model.plans, model.configuration, is_label)

        return SAMOpinion(
            to_raw(outcome.fused.label, is_label=True),
            to_raw(outcome.fused.confidence, is_label=False),
            to_raw(asked, is_label=True) > 0,
        )


def _use(stage: PseudoLabelStage, calibration: RoundCalibration, place: RoundOfFold) -> None:
    """Follow a calibration, if it is one of these SAMs and settings.

    Raises:
        UserError: If it is not.
    """
    same = (calibration.fingerprints, calibration.settings_sha256) == (fingerprints_of(stage), stage.settings.sha256)
    if not same or calibration.generalists != tuple(member.name for member in stage.ensemble.members):
        raise UserError(
            f"{place.folder / CALIBRATION_FILE} is of a SAM with other weights or settings. Restore them, or delete "
            f"{place.folder} and start again."
        )
    stage.use_calibration(calibration.table)


def where_asked(prediction: CasePrediction, weights: GeneralistWeights) -> np.ndarray:
    """Return where a generalist was asked about a class that it contributes to, ``(Z, Y, X)``, bool.

    Args:
        prediction: What it said, arrays ``(F, Z, Y, X)``; a mask that was rejected is an answer, too.
        weights: How much it contributes.
    """
    asked = np.zeros(prediction.predicted.shape[1:], dtype=bool)
    for f, weight in enumerate(weights.weight):
        if weight > 0:
            asked |= contributes(prediction, f, weights) | prediction.rejected[f]
    return asked
