"""Measure on the labeled cases of a fold where SAMs help a network that was trained on them.

It is the calibration that trainings make between epochs, on a checkpoint: same prompts, same simulated generalisation
error, same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from nnunet_semisam.adaptation.fold_data import FoldData, results_of
from nnunet_semisam.context import TrainingContext
from nnunet_semisam.data.architecture import check_architecture
from nnunet_semisam.data.geometry import GeometryOf
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.errors import UserError, name_some, printable, shown
from nnunet_semisam.generalists.build import check_generalists, refuse_leaking_adapters
from nnunet_semisam.io.hashes import sha256_of
from nnunet_semisam.io.names import case_problem
from nnunet_semisam.io.tensor_files import check_finite
from nnunet_semisam.io.yaml_files import read_mapping
from nnunet_semisam.model_export import read_checkpoint
from nnunet_semisam.pseudo_labels.build_stage import build_stage
from nnunet_semisam.pseudo_labels.calibration_table import CalibrationTable
from nnunet_semisam.pseudo_labels.selection import cases_for_round
from nnunet_semisam.pseudo_labels.stage import PseudoLabelStage, StageOutputs
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.settings import Settings
from nnunet_semisam.training.build_loader import collect_unlabeled

SETTINGS_FILE = "semisam_config.yaml"
GIVE_DICE = "Give it with --estimated-dice, for example what nnU-Net's validation of another fold found."


class UnknownDiceError(UserError):
    """The Dice of a network on unseen cases cannot be estimated."""


@dataclass(frozen=True)
class TrainedModel:
    """A network that a trainer left.

    Attributes:
        folder: nnU-Net's folder of the fold.
        checkpoint: The file.
        epoch: Epochs that it was trained for.
        network: The deployed weights, in evaluation mode.
    """

    folder: Path
    checkpoint: Path
    epoch: int
    network: nn.Module


@dataclass(frozen=True)
class Measured:
    """A calibration on the console.

    Attributes:
        table: What was measured.
        estimated_dice: Dice that the simulated generalisation error is as large as, in [0, 1].
        estimated: Whether it was estimated on unlabeled cases; else it was given.
        fingerprints: See :func:`fingerprints_of`.
    """

    table: CalibrationTable
    estimated_dice: float
    estimated: bool
    fingerprints: dict[str, str]


def training_folder(data: FoldData, trainer: str) -> Path:
    """Return nnU-Net's folder of a training.

    Raises:
        UserError: If there is none.
    """
    if not trainer.isidentifier():
        raise UserError(f"-tr {shown(trainer)}: a trainer is named by its class, for example nnUNetTrainerSemiSAM.")
    name = f"{trainer}__{data.data.plans_manager.plans_name}__{data.data.configuration_name}"
    folder = results_of(data) / name / f"fold_{data.name}"
    if not folder.is_dir():
        raise UserError(f"There is no training {folder}. Train first: nnUNetv2_train, or see -tr, -c, -p and -f.")
    return folder


def settings_of(folder: Path) -> Settings:
    """Return the settings that a training was made with; the defaults, if it was one of another package.

    Raises:
        UserError: If the file is damaged.
    """
    file = folder / SETTINGS_FILE
    if not file.is_file():
        return Settings()
    return Settings().replace(read_mapping(file, "Restore it from a copy, or train again."), str(file))


def load_model(data: FoldData, folder: Path, name: str, device: torch.device) -> TrainedModel:
    """Return the network of a training, as nnU-Net predicts with it.

    Args:
        data: The fold.
        folder: nnU-Net's folder of the fold.
        name: File name of the checkpoint.
        device: Where it goes.

    Raises:
        UserError: If there is no such checkpoint, or it is damaged or of other plans.
    """
    problem = case_problem(name)
    if problem is not None:
        raise UserError(f"--checkpoint {shown(name)} names no file of the training: {problem}.")
    file = folder / name
    if not file.is_file():
        found = name_some(sorted(path.name for path in folder.glob("checkpoint_*.pth"))) or "none"
        raise UserError(f"There is no {file}; checkpoints there: {found}. Name another with --checkpoint.")
    check_architecture(data.plan.configuration, data.plan.file, data.plan.name)
    content = read_checkpoint(file)
    remedy = "Take the checkpoint of a training with these plans."
    try:
        network, weights = _network(data), content["network_weights"]
        network.load_state_dict(weights)
        epoch = int(content["current_epoch"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = printable(str(error), 200)
        raise UserError(f"{file} is of another network than that of the plans ({reason}). {remedy}") from error
    check_finite(weights, file, remedy)
    return TrainedModel(folder, file, epoch, network.to(device).eval())


def _network(data: FoldData) -> nn.Module:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plan = data.plan
    heads = plan.label_manager.num_segmentation_heads
    return nnUNetTrainer.build_network_architecture(plan.manager, plan.configuration, plan.channels, heads, False)


def calibrate(
    data: FoldData,
    model: TrainedModel,
    settings: Settings,
    device: torch.device,
    estimated_dice: float | None = None,
    log: Callable[[str], Any] = print,
    geometry_of: GeometryOf | None = None,
) -> Measured:
    """Measure every generalist of the settings on all labeled cases of the fold.

    Args:
        data: The fold; labels of its training cases only are opened.
        model: The network.
        settings: Name the generalists and how they are prompted.
        device: Where to compute.
        estimated_dice: Mean foreground Dice of the network on unseen cases, in [0, 1]; ``None`` estimates it on
            unlabeled cases, as a training does.
        log: Receives lines for the user.
        geometry_of: See :func:`~nnunet_semisam.pseudo_labels.build_stage.build_stage`.

    Raises:
        UnknownDiceError: If the network finds no class in the unlabeled cases on which its Dice is to be estimated.
        UserError: If a generalist cannot be built, no labeled case can be read, or there are no unlabeled cases to
            estimate the Dice on.
    """
    estimated = estimated_dice is None
    pool = _pool(data) if estimated else None

    def load_image(case: str) -> Any:
        return data.labeled.load_image(case) if pool is None or case not in pool.files else pool.load_image(case)

    stage = stage_of_fold(data, model, settings, device, load_image, log, geometry_of)
    if pool is not None:
        some = cases_for_round(list(pool.files), {}, settings.block("sam").calibration_cases)
        estimated_dice = stage.pipeline.estimate_dice(tqdm(some, unit="case", desc="unlabeled", disable=None))
        if estimated_dice is None:
            raise UnknownDiceError(
                "The Dice of the network on unseen cases cannot be estimated: sam: {mirror: false} is set, or it finds "
                f"no class in {len(some)} unlabeled cases. {GIVE_DICE}"
            )
    cases = tqdm(stage.calibration_cases(data.labeled.cases), unit="case", desc="labeled", disable=None)
    table = stage.calibrate(0, model.epoch, cases, data.labeled.load_label, estimated_dice)
    return Measured(table, estimated_dice, estimated, fingerprints_of(stage))


def fingerprints_of(stage: PseudoLabelStage) -> dict[str, str]:
    """Return generalist -> digest of its SAM's weights, adapter included; those without a SAM are left out."""
    about = [member.about() for member in stage.ensemble.members]
    return {each["name"]: each["fingerprint"] for each in about if "fingerprint" in each}


def _pool(data: FoldData) -> UnlabeledDataset:
    try:
        return collect_unlabeled(data.data, data.fold)
    except UserError as error:
        raise UserError(f"The Dice of the network on unseen cases cannot be estimated: {error} {GIVE_DICE}") from error


def stage_of_fold(
    data: FoldData,
    model: TrainedModel,
    settings: Settings,
    device: torch.device,
    load_image: Callable[[str], Any],
    log: Callable[[str], Any] = print,
    geometry_of: GeometryOf | None = None,
) -> PseudoLabelStage:
    """Return the stage of pseudo-labels around a trained network; it stores nothing.

    Args:
        data: The fold; labels of its training cases only are opened.
        model: The network.
        settings: Name the generalists and how they are prompted.
        device: Where to compute.
        load_image: Returns the preprocessed image of a case, ``(C, Z, Y, X)``, float32.
        log: Receives lines for the user.
        geometry_of: See :func:`~nnunet_semisam.pseudo_labels.build_stage.build_stage`.

    Raises:
        UserError: If a generalist cannot be built or learned from labels that must not be seen, or a labeled case
            cannot be read.
    """
    check_generalists(settings, data.plan.channels)
    withheld = {*data.fold.val, *data.fold.unlabeled} - set(data.fold.train)
    refuse_leaking_adapters(settings, data.dataset.raw.name, sorted(withheld))
    context = TrainingContext(
        settings=settings,
        data=data.data,
        labels=data.labels,
        label_manager=data.plan.label_manager,
        labeled_dataset=data.labeled_dataset,
        output_folder=model.folder,
        device=device,
        batch_size=1,
    )
    outputs = StageOutputs(PseudoLabelStore(model.folder / "semisam_store"), log=log)  # nothing is stored
    return build_stage(context, model.network, data.labeled, load_image, outputs, geometry_of)


def as_record(data: FoldData, model: TrainedModel, measured: Measured, models: Sequence[str]) -> dict[str, Any]:
    """Return a calibration and where it comes from, as plain values."""
    return {
        "dataset": data.dataset.raw.name,
        "plans": data.data.plans_manager.plans_name,
        "configuration": data.data.configuration_name,
        "fold": data.name,
        "cases": data.labeled.cases,
        "checkpoint": str(model.checkpoint),
        "checkpoint_sha256": sha256_of(model.checkpoint),
        "epoch": model.epoch,
        "models": list(models),
        "fingerprints": measured.fingerprints,
        "estimated_dice": measured.estimated_dice,
        "dice_was_estimated": measured.estimated,
        **measured.table.to_dict(),
    }
