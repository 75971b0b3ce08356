"""``nnunet-semisam demo``: the whole way from images to a table, in minutes and without a network."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from nnunet_semisam.commands import _options
from nnunet_semisam.demo.schedule import DEFAULT_STEPS
from nnunet_semisam.errors import UserError, shown

HELP = "Run everything once on a small invented data set: convert, train with and without SAM, predict, compare."
EXAMPLE = "nnunet-semisam demo --folder demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "-o", "--folder", type=Path, default=Path("nnunet_semisam_demo"), help="where to write (default: %(default)s)"
    )
    parser.add_argument(
        "--acdc", type=Path, metavar="FOLDER", help="use real ACDC data: the official folder that holds training/"
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=DEFAULT_STEPS,
        help="optimizer steps of the common start; half as many follow (default: %(default)s)",
    )
    _options.add(
        parser,
        "device",
        choices=("cpu", "cuda", "mps"),
        metavar=None,
        help="for nnU-Net's -device (default: cuda if there is one, else cpu)",
    )
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier demo in the folder")


def positive(text: str) -> int:
    """Return a whole number that is at least 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 and below 10^9, got {shown(text)}")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    from nnunet_semisam.checks.places import check_target
    from nnunet_semisam.demo.pipeline import Demo, claim_folder, refuse_other_folder
    from nnunet_semisam.io.locks import folder_lock

    acdc = args.acdc and args.acdc.resolve()
    if acdc and not (acdc / "training").is_dir():
        raise UserError(f"--acdc {acdc} must be the official folder that holds training/patient001, patient002, ...")
    folder = check_target(args.folder, "--folder")
    if acdc and (folder.is_relative_to(acdc) or acdc.is_relative_to(folder)):
        raise UserError(f"--folder {folder} and --acdc {acdc} must not lie in each other. Choose another --folder.")
    refuse_other_folder(folder, args.overwrite)
    with folder_lock(folder, wait=False) as mine:
        if not mine:
            raise UserError(f"Another demo runs in {folder}. Wait for it, or choose another --folder.")
        Demo(claim_folder(folder, args.overwrite), acdc, args.steps, args.device or default_device()).run()


def default_device() -> str:
    """Return ``cuda`` if torch sees such a device, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
