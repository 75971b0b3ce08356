"""``nnunet-semisam predict``: nnU-Net's segmentations, with maps of how unsure they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_semisam.commands import _options
from nnunet_semisam.commands._model_options import add_model_options, device_of, model_of, target_of
from nnunet_semisam.commands.export import fold
from nnunet_semisam.errors import UserError

HELP = "Predict as nnUNetv2_predict does, with maps of the uncertainty."
EXAMPLE = "nnunet-semisam predict -i IMAGES -o SEGMENTATIONS -d 27 -c 3d_fullres --uncertainty"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the short ones are those of nnUNetv2_predict."""
    parser.add_argument("-i", dest="input", required=True, type=Path, metavar="FOLDER", help="folder with images")
    _options.add(parser, "out", required=True, help="for segmentations")
    add_model_options(parser)
    _options.add(parser, "folds", type=fold, default=[], help="folds (default: all that are there)")
    parser.add_argument(
        "--continue_prediction",
        action="store_true",
        help="understood as nnU-Net's command does: what a stopped run has finished is kept in any case",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="write entropy and disagreement of folds, student and teacher, and mirrored images as NIfTI",
    )


def run(args: argparse.Namespace) -> None:
    """Predict, and say where what lies."""
    args.out = target_of(args)
    if args.out == args.input.resolve():
        raise UserError(
            f"-i and -o are the same folder, {args.out}: segmentations would lie among images. Name another -o."
        )
    place = model_of(args, tuple(args.folds))
    from nnunet_semisam.annotation.predict import FOLDER, TABLE, predict_folder

    found = predict_folder(
        place, args.input, args.out, device_of(args), not args.disable_tta, uncertainty=args.uncertainty
    )
    if not args.uncertainty:
        print(f"Segmentations: {args.out}")
        return
    least_sure = sorted((each for each in found if each.disagreement is not None), key=lambda each: -each.disagreement)
    print(f"{len(found)} segmentations: {args.out}\nMaps and {TABLE}: {args.out / FOLDER}")
    for each in least_sure[:3]:
        print(f"  least sure: {each.case} (disagreement {each.disagreement:.3f}, entropy {each.entropy:.3f})")
