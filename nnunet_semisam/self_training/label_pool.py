"""The command that gives the cases of a pool their pseudo-labels: nnU-Net's own predictor on raw images.

Called by ``tasks.py`` with the folder of the self-training, round, fold, part, number of parts, and ``-device``. No
label is opened: neither raw nor preprocessed files of the pool but images are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_semisam.data.dataset_json import ignore_label
from nnunet_semisam.data.datasets import open_dataset
from nnunet_semisam.data.image_headers import reason
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.data.stored_voxels import refuse_cut_off
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import remove_temporaries, replaced_file
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.labels import Labels
from nnunet_semisam.runs.model_run import CHECKPOINT, ModelRun
from nnunet_semisam.self_training.plan import SelfTraining, load_plan
from nnunet_semisam.self_training.pseudo_label import agreement, certainty, mean_confidence, with_ignore
from nnunet_semisam.self_training.raw_dataset import voxels_per_label
from nnunet_semisam.self_training.rounds import PseudoLabel, RoundOfFold
from nnunet_semisam.self_training.tasks import LabelPool

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
    """

    label_map: np.ndarray
    probabilities: np.ndarray
    agreement: float | None
    properties: dict[str, Any]


class Teacher:
    """A trained model that predicts raw images as ``nnUNetv2_predict`` does.

    Args:
        model: The model.
        device: ``cuda``, ``cpu`` or ``mps``.
        mirroring: Whether to predict with mirroring; a network that was trained without never is.
    """

    def __init__(self, model: ModelRun, device: str, mirroring: bool) -> None:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.predictor: nnUNetPredictor = nnUNetPredictor(
            use_mirroring=mirroring, device=torch.device(device), allow_tqdm=False
        )
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

        predictor = self.predictor
        plans, configuration = predictor.plans_manager, predictor.configuration_manager
        preprocessor = configuration.preprocessor_class(verbose=False)
        try:
            for image in images:
                refuse_cut_off(Path(image))
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
        return Prediction(label_map, probabilities, agreed, properties)

    def _logits(self, image: Tensor, mirroring: bool) -> Tensor:
        """Return what the network says of a preprocessed image ``(C, *S)``: ``(K, *S)``, on the CPU."""
        self.predictor.use_mirroring = mirroring
        return self.predictor.predict_logits_from_preprocessed_data(image).cpu()


def label_cases(place: RoundOfFold, cases: Sequence[str], device: str) -> None:
    """Write the pseudo-labels of cases, and a record of each; cases that have theirs are left alone.

    Raises:
        UserError: If an image cannot be read.
    """
    plan = place.plan
    dataset = open_dataset(plan.dataset, plan.plans)
    files = image_files(dataset.raw, dataset.dataset_json)
    known = {**files["Ul"], **files["Tr"]}
    to_do = [case for case in cases if not place.is_labeled(case)]
    place.labels.mkdir(parents=True, exist_ok=True)
    for case in to_do:
        remove_temporaries(place.labels, f"{case}.*")
    model = place.before().model
    teacher, digest = Teacher(model, device, plan.mirroring), sha256_of(model.checkpoint)
    for number, case in enumerate(to_do):
        if case not in known:
            raise UserError(f"{dataset.raw} lacks the image of {case}. Put it back.")
        print(f"{number + 1} of {len(to_do)}: {case}", flush=True)
        _label_case(place, case, known[case], teacher, digest, dataset.dataset_json)


def _label_case(
    place: RoundOfFold, case: str, images: Sequence[str], teacher: Teacher, digest: str, dataset_json: dict[str, Any]
) -> None:
    plan, ignore = place.plan, ignore_label(dataset_json)
    found = teacher.predict(images)
    certain = certainty(found.probabilities, teacher.labels)
    label = with_ignore(found.label_map, certain, plan.threshold, ignore)
    target = place.label_file(case, dataset_json["file_ending"])
    with replaced_file(target) as temporary:
        teacher.predictor.plans_manager.image_reader_writer_class().write_seg(label, str(temporary), found.properties)
    record = PseudoLabel(
        case=case,
        round=place.index,
        teacher=plan.trainer_of(place.index - 1),
        checkpoint_sha256=digest,
        mirroring=teacher.mirrors,
        threshold=plan.threshold,
        agreement=found.agreement,
        confidence=mean_confidence(found.label_map, certain),
        voxels=voxels_per_label(label, ignore),
        sha256=sha256_of(target),
    )
    write_json(place.labels / f"{case}.json", asdict(record))


def read_place(folder: str, index: str, fold: str) -> RoundOfFold:
    """Return the round of a fold that a command was given.

    Raises:
        UserError: If there is no self-training in the folder.
    """
    plan: SelfTraining | None = load_plan(Path(folder))
    if plan is None:
        raise UserError(f"{folder} holds no self-training. Start it with: nnunet-semisam self-train")
    return RoundOfFold(plan, int(index), int(fold))


def main() -> None:
    """Label a part of the pool; the words of the command line are those that ``tasks.py`` gives."""
    folder, index, fold, part, parts, _, device = sys.argv[1:]
    try:
        place = read_place(folder, index, fold)
        label_cases(place, LabelPool(place, int(part), int(parts)).cases(), device)
    except UserError as error:
        sys.exit(str(error))
