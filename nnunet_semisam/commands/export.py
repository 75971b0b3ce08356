"""``nnunet-semisam export``: a stock nnU-Net model folder of a model that our trainers trained."""

from __future__ import annotations

import argparse
import re
import shlex

from nnunet_semisam.commands import _options
from nnunet_semisam.commands._model_options import add_model_name, folder_of
from nnunet_semisam.errors import shown

HELP = "Write a stock nnU-Net model folder that predicts on machines without this package."
EXAMPLE = "nnunet-semisam export -d 27 -c 3d_fullres -tr nnUNetTrainerSemiSAM -f 0 -o acdc_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the short ones are those of nnUNetv2_predict."""
    add_model_name(parser)
    _options.add(parser, "folds", type=fold, default=[], help="folds (default: all that are there)")
    parser.add_argument(
        "--keep-optimizer", action="store_true", help="keep the optimizer's state, which nobody needs for prediction"
    )
    _options.add(parser, "out", required=True, help="model folder to make")


def fold(text: str) -> str:
    """Return a fold as it is in folder names: a number, or ``all``."""
    if text != "all" and not re.fullmatch(r"[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"a fold is a number or 'all', got {shown(text)}")
    return text if text == "all" else str(int(text))


def run(args: argparse.Namespace) -> None:
    """Export, and say how to use the result."""
    model = folder_of(args)
    from nnunet_semisam.model_export import STOCK_TRAINER, export_model

    folds = export_model(model, args.out, args.folds, args.checkpoint, args.keep_optimizer)
    home = f"$nnUNet_results/{model.parent.name}/{STOCK_TRAINER}__{args.plans}__{args.configuration}"
    print(
        f"Wrote {args.out} with fold(s) {', '.join(folds)}; the weights load into stock nnU-Net's network.\n"
        f"Predict:  nnUNetv2_predict_from_modelfolder -i IMAGES -o SEGMENTATIONS -m {shlex.quote(str(args.out))} "
        f"-f {' '.join(folds)}\nor move it to {home} and use nnUNetv2_predict -tr {STOCK_TRAINER}."
    )
