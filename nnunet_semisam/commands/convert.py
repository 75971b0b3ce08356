"""``nnunet-semisam convert``: data sets as nnU-Net raw datasets with labeled and unlabeled cases."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nnunet_semisam.errors import UserError

if TYPE_CHECKING:
    from nnunet_semisam.dataset_conversion.common import DatasetConverter
    from nnunet_semisam.dataset_conversion.writer import Result

HELP = "Convert a data set to nnU-Net's raw format, with labels for some cases only."
EXAMPLE = "nnunet-semisam convert acdc -i database -d 27 --labeled 3"
PACKAGE = "nnunet_semisam.dataset_conversion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per registered converter."""
    registry = load_package().CONVERTERS
    subparsers = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name in registry.names():
        converter = registry.get(name)()
        subparser = subparsers.add_parser(
            name, help=converter.help, description=converter.help, epilog=f"example: {converter.example}"
        )
        converter.add_arguments(subparser)
        subparser.set_defaults(converter=converter)


def run(args: argparse.Namespace) -> None:
    """Convert, then say what was made and what comes next."""
    convert_and_report(args.converter, args)


def run_script(converter: DatasetConverter, argv: Sequence[str] | None = None) -> int:
    """Run one converter as a script of its own; see :func:`nnunet_semisam.cli.main` for the exit status."""
    parser = argparse.ArgumentParser(description=converter.help)
    converter.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        convert_and_report(converter, args)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def convert_and_report(converter: DatasetConverter, args: argparse.Namespace) -> None:
    """Convert as the parsed options say, and print the outcome.

    Raises:
        UserError: If options, data or target do not fit; nothing is written then.
    """
    result = converter.convert(args)
    print("\n".join(report(result, args.dataset_id)))


def report(result: Result, dataset_id: int) -> list[str]:
    """Return the lines that tell a user what was made and which commands come next."""
    conversion = result.conversion
    made = (
        "is already there, made from the same data with the same settings; nothing was written" * result.already_there
    )
    lines = [f"{result.folder} {made or 'was made'}:"]
    for part, text in (("Tr", "with labels"), ("Ul", "without labels"), ("Ts", "for testing")):
        lines.append(f"  images{part}: {len(conversion.of_part(part))} cases {text}")
    for fold, (split, budget) in enumerate(zip(conversion.splits, conversion.budgets, strict=True)):
        unlabeled = f", {len(split['unlabeled'])} hide their labels" if "unlabeled" in split else ""
        lines.append(
            f"  fold {fold}: {len(split['train'])} training cases (labeled patients: {budget['budget']}), "
            f"{len(split['val'])} validation cases{unlabeled}"
        )
    lines += [f"note: {note}" for note in result.notes]
    if result.fingerprint:
        lines.append(
            f"data: {result.fingerprint} (equal for equal voxels, labels and folds; see semisam_manifest.json)"
        )
    has_unlabeled = bool(conversion.of_part("Ul"))
    can_semisam = has_unlabeled or any(split.get("unlabeled") for split in conversion.splits)
    trainer = "nnUNetTrainerSemiSAM" if can_semisam else "nnUNetTrainerSupervised"
    return [
        *lines,
        "next:",
        f"  nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d 3d_fullres",
        *([f"  nnunet-semisam preprocess -d {dataset_id} -c 2d 3d_fullres"] if has_unlabeled else []),
        f"  nnUNetv2_train {dataset_id} 3d_fullres 0 -tr {trainer}",
    ]


def load_package() -> ModuleType:
    """Return the package of the converters, installed or in a checkout.

    setup.py installs the top-level folder ``dataset_conversion`` as ``nnunet_semisam.dataset_conversion``. Where the
    checkout itself is on the path, nothing maps that name, so the folder is loaded under it.
    """
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        folder = Path(__file__).resolve().parents[2] / "dataset_conversion"
        if error.name != PACKAGE or not (folder / "__init__.py").is_file():
            raise
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    sys.modules["nnunet_semisam"].dataset_conversion = module
    return module
