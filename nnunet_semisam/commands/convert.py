"""``nnunet-semisam convert``: data sets as nnU-Net raw datasets with labeled and unlabeled cases."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
    load_package().convert_and_report(args.converter, args)


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
