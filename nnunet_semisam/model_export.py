"""Turn a trained model of ours into a stock nnU-Net model folder, for machines that do not have this package."""

from __future__ import annotations

import itertools
import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_semisam import __version__
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.atomic import new_folder
from nnunet_semisam.io.json_files import read_object

STOCK_TRAINER = "nnUNetTrainer"
MODEL_FILES = ("plans.json", "dataset.json")  # what nnU-Net's predictor reads
OPTIONAL_MODEL_FILES = ("dataset_fingerprint.json",)
OPTIONAL_FOLD_FILES = ("progress.png",)  # not validation/summary.json: it names cases and local paths
TRAINING_STATE = ("optimizer_state", "grad_scaler_state")


def nnunet_globals() -> list[Any]:
    """Return the harmless types beyond torch's own that nnU-Net 2.8.1 puts into a checkpoint.

    These are the numpy scalars of its log. The function that rebuilds them is pickled under another name by numpy 1.
    """
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    return [np.dtype, *dtypes, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net or of ours onto the CPU without running any code that it may hold.

    Raises:
        UserError: If the file is missing, damaged, holds other types than nnU-Net writes, or is no such checkpoint.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pth"))) or "none"
        raise UserError(
            f"There is no checkpoint {path}; in that folder: {there}. Train first, or choose one with --checkpoint."
        )
    try:
        with torch.serialization.safe_globals(nnunet_globals()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:  # the latter three: a torn file
        reason = (str(error).strip() or "the file ends early.").splitlines()[0]
        raise UserError(
            f"Cannot read {path}: {reason} Only complete checkpoints are read, with the types that nnU-Net writes "
            "(a file that could run code is refused). Take a checkpoint of nnUNetv2_train as it was written."
        ) from error
    missing = {"network_weights", "init_args", "trainer_name"} - set(checkpoint if isinstance(checkpoint, dict) else ())
    if missing:
        raise UserError(f"{path} is no nnU-Net checkpoint: it lacks {', '.join(sorted(missing))}.")
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


def check_weights(model: Path, checkpoint: dict[str, Any]) -> None:
    """Build nnU-Net's own network from the model folder's plans and load the weights into it.

    Raises:
        UserError: If they do not fit.
    """
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    remedy = "Restore the file as nnUNetv2_train wrote it."
    dataset_json = read_object(model / "dataset.json", remedy)
    plans = PlansManager(read_object(model / "plans.json", remedy))
    configuration = plans.get_configuration(checkpoint["init_args"]["configuration"])
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    network = nnUNetTrainer.build_network_architecture(
        plans, configuration, channels, heads, enable_deep_supervision=False
    )
    try:
        network.load_state_dict(checkpoint["network_weights"])
    except RuntimeError as error:
        raise UserError(
            f"The weights do not fit the network that stock nnU-Net builds from {model / 'plans.json'}: {error}. "
            "A trainer that changes the network cannot be exported; predict with this package installed."
        ) from error


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
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"The output {output} exists already; it must be a new or an empty folder. Choose another.")
    folds = find_folds(model, folds, checkpoint_name)
    further = _numbers_after(folds)
    with new_folder(output) as unfinished:
        _copy_model_files(model, unfinished)
        written = list(folds)
        for fold in folds:
            source = model / f"fold_{fold}"
            checkpoint = read_checkpoint(source / checkpoint_name)
            stock = stock_checkpoint(checkpoint, keep_optimizer)
            _write_fold(stock, unfinished, fold)
            _copy_fold_files(source, unfinished / source.name)
            for name, weights in ensemble_weights(checkpoint).items():
                member = stock | {"network_weights": weights}
                member["semisam"] = stock["semisam"] | {"network": name, "of_fold": fold}
                written.append(str(next(further)))
                _write_fold(member, unfinished, written[-1])
    return written


def ensemble_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of the networks that are shipped beside the deployed one, by name; none for most methods."""
    entry = checkpoint.get("semisam") or {}
    return {name: entry["method"][name] for name in entry.get("ensemble_members", ())}


def _numbers_after(folds: Sequence[str]) -> Iterator[int]:
    return itertools.count(1 + max((int(fold) for fold in folds if fold.isdigit()), default=-1))


def _copy_model_files(model: Path, target: Path) -> None:
    missing = [name for name in MODEL_FILES if not (model / name).is_file()]
    if missing:
        raise UserError(f"{model} lacks {', '.join(missing)}, which nnUNetv2_train writes when it starts.")
    for name in (*MODEL_FILES, *OPTIONAL_MODEL_FILES):
        if (model / name).is_file():
            shutil.copyfile(model / name, target / name)


def _write_fold(checkpoint: dict[str, Any], target: Path, fold: str) -> None:
    """Write one fold below ``target``, whose plans.json and dataset.json are there already."""
    check_weights(target, checkpoint)
    folder = target / f"fold_{fold}"
    folder.mkdir()
    torch.save(checkpoint, folder / "checkpoint_final.pth")


def _copy_fold_files(source: Path, target: Path) -> None:
    for name in OPTIONAL_FOLD_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
