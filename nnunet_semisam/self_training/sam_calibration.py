"""The command that measures where SAMs help a teacher, once for all parts of its pool: ``sam_calibration.json``.

Called by ``tasks.py`` with the folder of the self-training, round, fold, and ``-device``. Only labels of the labeled
cases of the fold are opened, in the dataset that the self-training began with: pseudo-labels are no measure. Of
unlabeled cases images are predicted, to estimate how large an error must be simulated on labeled ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict

import torch

import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
from nnunet_semisam.adaptation.calibrate import TrainedModel, UnknownDiceError, calibrate, settings_of
from nnunet_semisam.adaptation.fold_data import FoldData, open_fold
from nnunet_semisam.data.geometry import Geometry, recorded_geometry
from nnunet_semisam.data.geometry_of_images import geometry_of_files, reader_of_plans
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.json_files import write_json
from nnunet_semisam.self_training.calibration_record import CALIBRATION_FILE, RoundCalibration, read_calibration
from nnunet_semisam.self_training.plan import SOURCE
from nnunet_semisam.self_training.preflight import refuse_without_mirrors
from nnunet_semisam.self_training.rounds import RoundOfFold, read_place
from nnunet_semisam.self_training.teacher import Teacher
from nnunet_semisam.settings import Settings


def calibration_for(place: RoundOfFold, checkpoint_sha256: str) -> RoundCalibration:
    """Return the calibration of a round, which must be one of its teacher.

    Raises:
        UserError: If it is not there, or of another network.
    """
    found = read_calibration(place)
    if found is None or found.checkpoint_sha256 != checkpoint_sha256:
        (place.folder / CALIBRATION_FILE).unlink(missing_ok=True)
        raise UserError(
            f"{place.folder / CALIBRATION_FILE} is missing, damaged, or of another network than "
            f"{place.before().model.checkpoint}. Start again: it is made again."
        )
    return found


def sam_settings(place: RoundOfFold) -> Settings:
    """Return the settings of the stage: those that the first training of the fold was made with, in all rounds.

    A training without a SAM wrote no settings of SAMs: those of the self-training are added.

    Raises:
        UserError: If their file is damaged.
    """
    plan = place.plan
    first = settings_of(RoundOfFold(plan, 0, place.fold).model.training_folder)
    return first.replace(plan.settings, SOURCE).replace({"use_sam": True}, "self-train --sam")


def original_fold(place: RoundOfFold) -> FoldData:
    """Return the fold in the dataset that the self-training began with: of a round's own dataset labels are predicted.

    Raises:
        UserError: If it is not there, damaged, or another than it was.
    """
    plan = place.plan
    data = open_fold(plan.dataset, plan.plans, plan.configuration, str(place.fold))
    if sorted(data.labeled.cases) != plan.folds[place.fold].labeled:
        raise UserError(f"Fold {place.fold} of {plan.dataset} has changed since the self-training began. Restore it.")
    return data


def as_trained(place: RoundOfFold, teacher: Teacher) -> TrainedModel:
    """Return a teacher as calibration and stage take a network."""
    model, epochs = place.before().model, place.plan.settings_of(place.index - 1).get("num_epochs", 0)
    return TrainedModel(model.training_folder, model.checkpoint, int(epochs), teacher.model.network)


def geometry_source(data: FoldData) -> Callable[[str], Geometry | None]:
    """Return a function that returns the geometry of a case: what is on file, else what its raw image says."""
    files = image_files(data.dataset.raw, data.dataset.dataset_json)
    known = {**files["Ul"], **files["Tr"]}
    reader = reader_of_plans(data.dataset.plans)

    def geometry_of(case: str) -> Geometry | None:
        return recorded_geometry(data.dataset.preprocessed, case) or geometry_of_files(known[case], reader)

    return geometry_of


def calibrate_round(place: RoundOfFold, device: str) -> RoundCalibration:
    """Measure on the labeled cases of a fold where SAMs help the teacher of a round, and write it down.

    Raises:
        UserError: If a SAM cannot be loaded, or a case cannot be read.
    """
    settings, data = sam_settings(place), original_fold(place)
    refuse_without_mirrors(settings)  # else the estimate would look as if the teacher had found nothing
    model = as_trained(place, Teacher(place.before().model, device, place.plan.mirroring))
    measured = None
    try:
        measured = calibrate(data, model, settings, torch.device(device), geometry_of=geometry_source(data))
    except UnknownDiceError:
        print("The teacher finds no class in unlabeled images, so that there is nothing to prompt a SAM with.")
    found = RoundCalibration(
        checkpoint_sha256=sha256_of(model.checkpoint),
        cases=data.labeled.cases,
        models=list(settings.block("sam").models),
        fingerprints={} if measured is None else measured.fingerprints,
        settings_sha256=settings.sha256,
        estimated_dice=None if measured is None else measured.estimated_dice,
        generalists=() if measured is None else measured.table.generalists,
        classes=() if measured is None else measured.table.classes,
    )
    if measured is not None:
        print(measured.table.log_text())
    write_json(place.folder / CALIBRATION_FILE, asdict(found))
    return found


def main() -> None:
    """Calibrate; the words of the command line are those that ``tasks.py`` gives."""
    folder, index, fold, _, device = sys.argv[1:]
    try:
        calibrate_round(read_place(folder, index, fold), device)
    except UserError as error:
        sys.exit(str(error))
