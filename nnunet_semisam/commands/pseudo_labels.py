"""``nnunet-semisam pseudo-labels``: to an annotator and back."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from nnunet_semisam.commands import _options
from nnunet_semisam.commands._model_options import add_model_options, dataset_and_model, device_of, target_of
from nnunet_semisam.commands.export import fold

HELP = "Export pseudo-labels to correct them in 3D Slicer or ITK-SNAP; import them as labels."
EXAMPLE = "nnunet-semisam pseudo-labels export -d 27 -c 3d_fullres -f 0 -o to_correct"
IMPORT_EXAMPLE = "nnunet-semisam pseudo-labels import -i to_correct -d 28"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their options."""
    subparsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "write label, confidence and image of unlabeled cases as NIfTI, with colour tables"
    export = subparsers.add_parser("export", help=text, description=text, epilog=f"example: {EXAMPLE}")
    add_model_options(export)
    _options.add(export, "fold", type=fold, default="0", help="fold (default: %(default)s)")
    _options.add(export, "out", required=True)
    export.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="only these (default: all)")
    export.add_argument(
        "--source",
        choices=("model", "rounds"),
        default="model",
        help="the model's prediction, or the last round of the training's pseudo-labels (default: %(default)s)",
    )
    export.set_defaults(act=_export)
    text = "make a dataset of the fold's labels and those in reviewed/"
    back = subparsers.add_parser("import", help=text, description=text, epilog=f"example: {IMPORT_EXAMPLE}")
    back.add_argument("-i", dest="input", required=True, type=Path, metavar="FOLDER", help="folder of the export")
    back.add_argument("-d", dest="dataset_id", required=True, type=int, metavar="ID", help="id of the new dataset")
    back.add_argument("--name", help="name of the new dataset (default: that of the old one)")
    _options.add(back, "processes", help="files read at a time (default: %(default)s)")
    back.set_defaults(act=_import)


def run(args: argparse.Namespace) -> None:
    """Export or import."""
    args.act(args)


def _export(args: argparse.Namespace) -> None:
    args.out = target_of(args)
    dataset, place = dataset_and_model(args)
    from nnunet_semisam.annotation.export import REVIEWED, export_pseudo_labels
    from nnunet_semisam.annotation.pool import unlabeled_pool

    pool = unlabeled_pool(dataset, args.fold, args.cases)
    found = export_pseudo_labels(
        place, dataset.raw.name, args.fold, pool, args.out, device_of(args), args.source, not args.disable_tta
    )
    print(f"{len(found.written)} pseudo-labels written to {args.out}, {len(found.there)} were there ({found.source}).")
    if found.without:
        print(f"{len(found.without)} unlabeled cases have none in this round; --source model predicts them.")
    print(
        f"3D Slicer: load images/ and labels/ and the colours of labels.ctbl; ITK-SNAP: labels_itksnap.txt.\n"
        f"Save what you corrected to {args.out / REVIEWED} under the same name, then:\n"
        f"  nnunet-semisam pseudo-labels import -i {shlex.quote(str(args.out))} -d NEW_ID"
    )


def _import(args: argparse.Namespace) -> None:
    from nnunet_semisam.commands.convert import load_package

    load_package().import_and_report(args.input, args.dataset_id, args.name, args.num_processes)
