"""``nnunet-semisam sam calibrate``: where do SAMs help a trained network, class by class?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunet_semisam.commands import _options
from nnunet_semisam.commands._sam_adapt import DEVICE, add_fold
from nnunet_semisam.errors import UserError
from nnunet_semisam.io.csv_files import write_table
from nnunet_semisam.io.json_files import write_json

TEXT = "Measure on labeled cases where SAMs help a trained network: class by class, prompt strategy by prompt strategy."
EXAMPLE = "calibrate -d 27 -f 0 -tr nnUNetTrainerSemiSAM --model nano vit_b --json calibration.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the short ones are those of nnUNetv2_train."""
    add_fold(parser)
    _options.add(parser, "trainer", default=None, required=True, help="trainer of the network")
    parser.add_argument(
        "--model", nargs="+", default=None, help="generalists to measure (default: those of the training's settings)"
    )
    _options.add(parser, "checkpoint", default="checkpoint_final.pth", help="file name (default: %(default)s)")
    parser.add_argument(
        "--estimated-dice",
        type=float,
        default=None,
        metavar="DICE",
        help="mean Dice of the network on unseen cases, 0 to 1 (default: estimated on unlabeled cases)",
    )
    parser.add_argument("--csv", type=Path, default=None, help="file for the table")
    parser.add_argument("--json", type=Path, default=None, help="file for all measurements and where they come from")
    _options.add(parser, "device", help=DEVICE)


def run(args: argparse.Namespace, device: Callable[[str | None], Any]) -> None:
    """Measure, print the table and write the files.

    Args:
        args: The options.
        device: Returns the device that an option names.
    """
    import nnunet_semisam.training.trainer  # noqa: F401  registers every block of settings
    from nnunet_semisam.adaptation.calibrate import as_record, calibrate, load_model, settings_of, training_folder
    from nnunet_semisam.adaptation.fold_data import open_fold
    from nnunet_semisam.pseudo_labels.calibration_table import COLUMNS
    from nnunet_semisam.settings.file import from_environment

    _check(args)
    data = open_fold(args.dataset, args.plans, args.configuration, args.fold)
    folder = training_folder(data, args.trainer)
    settings = from_environment(settings_of(folder)).replace({"use_sam": True}, "sam calibrate")
    if args.model is not None:
        settings = settings.replace({"sam": {"models": args.model}}, "--model")
    place = device(args.device)
    model = load_model(data, folder, args.checkpoint, place)
    measured = calibrate(data, model, settings, place, args.estimated_dice)
    how = "estimated on unlabeled cases" if measured.estimated else "as given"
    print(f"{model.checkpoint}, epoch {model.epoch}; Dice on unseen cases {measured.estimated_dice:.3f} ({how})\n")
    print(measured.table.log_text())
    if args.csv is not None:
        write_table(args.csv, COLUMNS, measured.table.rows())
    if args.json is not None:
        write_json(args.json, as_record(data, model, measured, settings.block("sam").models))


def _check(args: argparse.Namespace) -> None:
    """Refuse options before anything is computed."""
    if args.estimated_dice is not None and not 0 <= args.estimated_dice <= 1:
        raise UserError(f"--estimated-dice must be from 0 to 1, got {args.estimated_dice:g}.")
    for option, path in (("--csv", args.csv), ("--json", args.json)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise UserError(f"{option} {path} must name a file in a folder that is there.")
