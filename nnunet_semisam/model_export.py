"""Turn a trained model of ours into a stock nnU-Net model folder, for machines that do not have this package."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nnunet_semisam import __version__
from nnunet_semisam.checks.findings import cause_of
from nnunet_semisam.checks.places import check_target
from nnunet_semisam.checks.plans import read_plan
from nnunet_semisam.data.architecture import check_architecture
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.atomic import new_folder, open_atomically, remove_leftovers_of_the_dead
from nnunet_semisam.io.json_files import read_object
from nnunet_semisam.io.tensor_files import check_finite, numpy_scalar_types, read_tensors

STOCK_TRAINER = "nnUNetTrainer"
MODEL_FILES = ("plans.json", "dataset.json")  # what nnU-Net's predictor reads
OPTIONAL_MODEL_FILES = ("dataset_fingerprint.json",)
OPTIONAL_FOLD_FILES = ("progress.png",)  # not validation/summary.json: it names cases and local paths
KINDS = {"network_weights": dict, "init_args": dict, "trainer_name": str}  # what every checkpoint of nnU-Net holds
TRAINING_STATE = ("optimizer_state", "grad_scaler_state")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net or of ours onto the CPU without running any code that it may hold.

    Raises:
        UserError: If the file is missing, damaged, holds other types than nnU-Net writes, or is no such checkpoint.
    """
    if not os.path.lexists(path):
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pth"))) or "none"
        raise UserError(
            f"There is no checkpoint {path}; in that folder: {there}. Train first, or choose one with --checkpoint."
        )
    remedy = "Take a checkpoint of nnUNetv2_train as it was written, or choose another with --checkpoint."
    checkpoint = read_tensors(path, remedy, numpy_scalar_types())
    missing = sorted(KINDS.keys() - checkpoint.keys())
    if missing:
        raise UserError(f"{path} is no nnU-Net checkpoint: it lacks {', '.join(missing)}. {remedy}")
    for name, kind in KINDS.items():
        if not isinstance(checkpoint[name], kind):
            found = type(checkpoint[name]).__name__
            raise UserError(f"{path} is no nnU-Net checkpoint: {name} is a {found}, not a {kind.__name__}. {remedy}")
    if not isinstance(checkpoint.get("semisam") or {}, dict):
        raise UserError(f"{path}: the entry semisam must be a dict, as our trainers write it. {remedy}")
    return checkpoint


def stock_checkpoint(checkpoint: dict[str, Any], keep_optimizer: bool) -> dict[str, Any]:
    """Return a checkpoint that names nnU-Net's own trainer; the weights stay as they are.

    Args:
        checkpoint: What :func:`read_checkpoint` returned; ``network_weights`` are the deployed ones.
        keep_optimizer: Whether the state of optimizer and gradient scaler stays, which is as large as the weights.
    """
    stock = {k: v for k, v in checkpoint.items() if k != "semisam" and (keep_optimizer or k not in TRAINING_STATE)}
    stock["trainer_name"] = STOCK_TRAINER
    ours = checkpoint.get("semisam") or {}
    # Provenance only: a student or a teacher in here would double the file, and nothing reads it.
    stock["semisam"] = {
        "trainer_name": checkpoint["trainer_name"],
        "settings": ours.get("settings"),
        "exported_by": f"nnunet-semisam {__version__}",
    }
    return stock


def check_weights(model: Path, checkpoint: dict[str, Any], source: Path) -> None:
    """Check that weights are finite, and fit the network that nnU-Net builds from the model folder's plans.

    The network takes no memory: plans that ask for an absurd one do no harm.

    Args:
        model: The trained model folder.
        checkpoint: What :func:`read_checkpoint` returned, or a part of it for a further network.
        source: The file that it is of, for messages.

    Raises:
        UserError: If they do not fit, or are not finite, or the network is none of nnU-Net's library.
    """
    remedy = "Restore the file as nnUNetv2_train wrote it."
    configuration = checkpoint["init_args"].get("configuration")
    if not isinstance(configuration, str):
        raise UserError(f"{source} is no nnU-Net checkpoint: init_args names no configuration. {remedy}")
    plans_file, dataset_file = model / "plans.json", model / "dataset.json"
    plans, dataset_json = read_object(plans_file, remedy), read_object(dataset_file, remedy)
    plan = read_plan(plans, configuration, dataset_json, plans_file, dataset_file)
    check_architecture(plan.configuration, plans_file, configuration)
    weights = checkpoint["network_weights"]
    try:
        # a plain copy: torch writes "assign" into the metadata of the state dict, for whoever loads it next
        plan.network().load_state_dict(dict(weights), assign=True)
    except UserError:
        raise
    except Exception as error:  # names that are no texts, values that are no tensors, other shapes
        raise UserError(
            f"The weights in {source} do not fit the network that stock nnU-Net builds from {plans_file}: "
            f"{cause_of(error)}. A trainer that changes the network cannot be exported; predict with this package "
            "installed."
        ) from error
    check_finite(weights, source, "Export another checkpoint with --checkpoint, or train again.")


def find_folds(model: Path, folds: Sequence[str], checkpoint_name: str) -> list[str]:
    """Return the folds to export.

    Args:
        model: Model folder, ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        folds: Numbers or ``all`` (nnU-Net's fold of that name); empty takes every fold that has the checkpoint.
        checkpoint_name: File name of the checkpoint.

    Raises:
        UserError: If the model folder is not there or holds no such checkpoint.
    """
    if not model.is_dir():
        trained = sorted(p.name for p in model.parent.glob("*__*__*")) if model.parent.is_dir() else []
        raise UserError(f"There is no model {model}. Trained models of this data set: {', '.join(trained) or 'none'}.")
    found = sorted(p.parent.name.removeprefix("fold_") for p in model.glob(f"fold_*/{checkpoint_name}"))
    if not found:
        raise UserError(
            f"No fold in {model} has a {checkpoint_name}. Finish a training, or choose one with --checkpoint."
        )
    return list(dict.fromkeys(folds)) or found


def export_model(
    model: Path,
    output: Path,
    folds: Sequence[str] = (),
    checkpoint_name: str = "checkpoint_final.pth",
    keep_optimizer: bool = False,
) -> list[str]:
    """Write a complete stock model folder.

    A method that ships several networks (Cross Pseudo Supervision: two) gets a fold for each further network, numbered
    after the folds that are exported: ``nnUNetv2_predict -f 0 1`` averages them.

    Args:
        model: Trained model folder, ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        output: Folder to make; must not exist, or be empty. It appears whole or not at all.
        folds: See :func:`find_folds`.
        checkpoint_name: Checkpoint to take; it is called ``checkpoint_final.pth`` in ``output``.
        keep_optimizer: See :func:`stock_checkpoint`.

    Returns:
        The folds that were written, those of further networks included.

    Raises:
        UserError: If something is missing, unreadable, or does not fit stock nnU-Net.
    """
    output = check_target(output, "output")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"The output {output} exists already; it must be a new or an empty folder. Choose another.")
    if output.is_relative_to(model.resolve()):
        raise UserError(f"The output {output} lies in the trained model {model}. Choose another.")
    folds = find_folds(model, folds, checkpoint_name)
    further = _numbers_after(folds)
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of_the_dead(output.parent, output.name)
    try:
        with new_folder(output) as unfinished:
            return _write_model(model, unfinished, folds, further, checkpoint_name, keep_optimizer)
    except OSError as error:
        raise UserError(
            f"{output} could not be written ({error.strerror or error}); nothing is left of it. Make room, or choose "
            "another output."
        ) from error


def _write_model(
    model: Path,
    target: Path,
    folds: Sequence[str],
    further: Iterator[int],
    checkpoint_name: str,
    keep_optimizer: bool,
) -> list[str]:
    """Write all folds into ``target``; return their names."""
    _copy_model_files(model, target)
    written = list(folds)
    for fold in folds:
        source = model / f"fold_{fold}"
        path = source / checkpoint_name
        checkpoint = read_checkpoint(path)
        check_weights(model, checkpoint, path)
        stock = stock_checkpoint(checkpoint, keep_optimizer)
        _write_fold(stock, target, fold)
        _copy_fold_files(source, target / source.name)
        for name, weights in ensemble_weights(checkpoint, path).items():
            member = stock | {"network_weights": weights}
            check_weights(model, member, path)
            member["semisam"] = stock["semisam"] | {"network": name, "of_fold": fold}
            written.append(str(next(further)))
            _write_fold(member, target, written[-1])
    return written


def ensemble_weights(checkpoint: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return the weights of the networks that are shipped beside the deployed one, by name; none for most methods.

    Raises:
        UserError: If the checkpoint names a network that it does not hold.
    """
    entry = checkpoint.get("semisam") or {}
    names, parts = entry.get("ensemble_members") or (), entry.get("method") or {}
    fitting = isinstance(names, (list, tuple)) and isinstance(parts, dict)
    if not fitting or not all(isinstance(name, str) and isinstance(parts.get(name), dict) for name in names):
        raise UserError(
            f"{source} names networks to ship beside the deployed one ({shown(names)}) that it does not hold. Take a "
            "checkpoint of nnUNetv2_train as it was written."
        )
    return {name: parts[name] for name in names}


def _numbers_after(folds: Sequence[str]) -> Iterator[int]:
    return itertools.count(1 + max((int(fold) for fold in folds if fold.isdigit()), default=-1))


def _copy_model_files(model: Path, target: Path) -> None:
    missing = [name for name in MODEL_FILES if not (model / name).is_file()]
    if missing:
        raise UserError(f"{model} lacks {', '.join(missing)}, which nnUNetv2_train writes when it starts.")
    for name in (*MODEL_FILES, *OPTIONAL_MODEL_FILES):
        if (model / name).is_file():  # no pipe, no folder
            shutil.copyfile(model / name, target / name)


def _write_fold(checkpoint: dict[str, Any], target: Path, fold: str) -> None:
    """Write one fold below ``target``.

    Raises:
        OSError: If the disk is full: torch says it with a RuntimeError.
    """
    folder = target / f"fold_{fold}"
    folder.mkdir()
    path = folder / "checkpoint_final.pth"
    try:
        with open_atomically(path) as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        raise OSError(f"{path.name}: {cause_of(error)}") from error


def _copy_fold_files(source: Path, target: Path) -> None:
    for name in OPTIONAL_FOLD_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
