"""Options that name a trained model: the same, with nnU-Net's spellings, in every command that needs one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _options
from nnunet_semisam.data.datasets import PLANS
from nnunet_semisam.errors import UserError, name_some, shown
from nnunet_semisam.io.names import case_problem

if TYPE_CHECKING:
    from nnunet_semisam.data.datasets import PlannedDataset
    from nnunet_semisam.runs.raw_images import ModelPlace

DEVICES = ("auto", "cuda", "cpu", "mps")
CHECKPOINT = "checkpoint_final.pth"  # nnU-Net's own default


def add_model_name(parser: argparse.ArgumentParser) -> None:
    """Declare dataset, configuration, trainer, plans and checkpoint."""
    _options.add(parser, "dataset")
    _options.add(parser, "configuration", help=f"configuration (default: the only one, of {PLANS} first)")
    _options.add(parser, "trainer")
    _options.add(parser, "plans", default=None, help=f"plans identifier (default: {PLANS}, or the only one)")
    _options.add(parser, "checkpoint", default=CHECKPOINT, help="file to take (default: %(default)s)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare what names a model, and how it predicts."""
    add_model_name(parser)
    _options.add(parser, "device", choices=DEVICES, default="auto", help="where to predict (default: %(default)s)")
    parser.add_argument("--disable_tta", action="store_true", help="predict without mirroring")


def model_of(args: argparse.Namespace, folds: tuple[str, ...]) -> ModelPlace:
    """Return the model that the options name; see :func:`folder_of`."""
    folder = folder_of(args)  # before torch is imported: what is missing is said at once
    from nnunet_semisam.runs.raw_images import ModelPlace

    return ModelPlace(folder, folds, args.checkpoint)


def dataset_and_model(args: argparse.Namespace) -> tuple[PlannedDataset, ModelPlace]:
    """Return the planned dataset and the model of one fold, ``args.fold``; see :func:`folder_of`."""
    folder_of(args)  # the dataset is read with the plans of the model
    from nnunet_semisam.data.datasets import open_dataset

    dataset = open_dataset(args.dataset, args.plans)  # before torch is imported: what is missing is said at once
    return dataset, model_of(args, (args.fold,))


def folder_of(args: argparse.Namespace) -> Path:
    """Return ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``, and complete the options by its name.

    Raises:
        UserError: If a name cannot be part of a folder's name, there is no such dataset in ``nnUNet_results``, or the
            options leave open which model is meant.
    """
    if Path(args.checkpoint).name != args.checkpoint or not args.checkpoint.strip(". "):
        raise UserError(f"-chk is the name of a file in the fold's folder, not a path: {shown(args.checkpoint)}.")
    for option, name in (("-tr", args.trainer), ("-p", args.plans), ("-c", args.configuration)):
        problem = None if name is None else case_problem(name)
        if problem is not None:
            raise UserError(f"{option} {shown(name)} cannot be part of a folder's name: {problem}. Correct it.")
    from nnunet_semisam.data.datasets import environment_folder, find_dataset_name

    results = environment_folder("nnUNet_results")
    name = find_dataset_name(results, args.dataset, what="trained model of dataset")
    if args.configuration is None or args.plans is None:
        args.plans, args.configuration = _only_model(results / name, args)
    return results / name / f"{args.trainer}__{args.plans}__{args.configuration}"


def _only_model(folder: Path, args: argparse.Namespace) -> tuple[str, str]:
    """Return plans and configuration of the one model of a dataset that the options can mean."""
    trained = sorted(path.name for path in folder.glob("*__*__*") if path.is_dir())
    models = [tuple(name.split("__")) for name in trained if name.count("__") == 2]
    meant = [
        (plans, configuration)
        for trainer, plans, configuration in models
        if trainer == args.trainer and args.plans in (None, plans) and args.configuration in (None, configuration)
    ]
    if args.plans is None:
        meant = [each for each in meant if each[0] == PLANS] or meant
    if len(meant) == 1:
        return meant[0]
    what = "More than one model fits" if meant else "No model fits"
    asked = " ".join(
        f"{option} {value}"
        for option, value in (("-tr", args.trainer), ("-p", args.plans), ("-c", args.configuration))
        if value is not None
    )
    raise UserError(
        f"{what} {asked} in {folder}. There are: {name_some(trained, 10) or 'none'}. Say which with -tr, -p and -c."
    )


def target_of(args: argparse.Namespace) -> Path:
    """Return the folder that ``-o`` names.

    Raises:
        UserError: If there can be no such folder, or it cannot be written to.
    """
    from nnunet_semisam.checks.places import check_target

    return check_target(args.out, "-o")


def device_of(args: argparse.Namespace) -> str:
    """Return ``cuda``, ``cpu`` or ``mps``."""
    import os

    from nnunet_semisam.jobs.nnunet_command import device_here

    return device_here(args.device, os.environ)
