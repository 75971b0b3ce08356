"""Options that name a trained model: the same, with nnU-Net's spellings, in every command that needs one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_semisam.commands import _options
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.names import case_problem

if TYPE_CHECKING:
    from nnunet_semisam.runs.raw_images import ModelPlace

DEVICES = ("auto", "cuda", "cpu", "mps")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare dataset, configuration, trainer, plans, checkpoint and device."""
    _options.add(parser, "dataset")
    _options.add(parser, "configuration", required=True)
    _options.add(parser, "trainer", "plans")
    _options.add(parser, "checkpoint", default="checkpoint_final.pth", help="file to take (default: %(default)s)")
    _options.add(parser, "device", choices=DEVICES, default="auto", help="where to predict (default: %(default)s)")
    parser.add_argument("--disable-tta", action="store_true", help="predict without mirroring")


def model_of(args: argparse.Namespace, folds: tuple[str, ...]) -> ModelPlace:
    """Return the model that the options name; see :func:`folder_of`."""
    folder = folder_of(args)  # before torch is imported: what is missing is said at once
    from nnunet_semisam.runs.raw_images import ModelPlace

    return ModelPlace(folder, folds, args.checkpoint)


def folder_of(args: argparse.Namespace) -> Path:
    """Return ``$nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.

    Raises:
        UserError: If a name cannot be part of a folder's name, or there is no such dataset in ``nnUNet_results``.
    """
    if Path(args.checkpoint).name != args.checkpoint or not args.checkpoint.strip(". "):
        raise UserError(f"-chk is the name of a file in the fold's folder, not a path: {shown(args.checkpoint)}.")
    for option, name in (("-tr", args.trainer), ("-p", args.plans), ("-c", args.configuration)):
        problem = case_problem(name)
        if problem is not None:
            raise UserError(f"{option} {shown(name)} cannot be part of a folder's name: {problem}. Correct it.")
    from nnunet_semisam.data.datasets import environment_folder, find_dataset_name

    results = environment_folder("nnUNet_results")
    name = find_dataset_name(results, args.dataset, what="trained model of dataset")
    return results / name / f"{args.trainer}__{args.plans}__{args.configuration}"


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
