"""The base class of the dataset converters, and their registry.

A converter only says which file is which case (:meth:`DatasetConverter.plan`). Checking (``checks.py``) and writing
(``writer.py``) are the same for all. Modules here load numpy and SimpleITK inside functions: the console lists the
converters without them.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from nnunet_semisam.errors import UserError
from nnunet_semisam.registry import Registry

from .reading.case import Conversion
from .writing.writer import Result, write_dataset

CONVERTERS: Registry[DatasetConverter] = Registry("dataset converter")


class DatasetConverter(ABC):
    """Base class of the converters: knows the layout of one data set, and nothing about checking and writing.

    Attributes:
        dataset_name: The dataset is written to ``DatasetXXX_<dataset_name>``.
        default_id: Dataset id if the user names none.
        help: A line for the console.
        example: A command line.
    """

    dataset_name: ClassVar[str]
    default_id: ClassVar[int]
    help: ClassVar[str]
    example: ClassVar[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that every converter has. Extend it for more."""
        parser.add_argument("-i", "--input", required=True, type=Path, metavar="FOLDER", help="folder of the raw data")
        parser.add_argument(
            "-d", "--dataset-id", type=int, default=self.default_id, metavar="ID", help="nnU-Net id (%(default)s)"
        )
        parser.add_argument(
            "--labeled",
            nargs="+",
            required=True,
            metavar="N",
            help="how many patients (or cases) keep their labels: one number (the others go to imagesUl), several "
            'numbers (one fold per number, in one dataset, with "unlabeled" lists), names, or "all"',
        )
        parser.add_argument(
            "-np",
            dest="num_processes",
            type=int,
            default=4,
            metavar="N",
            help="how many files are read at the same time (default: %(default)s)",
        )

    @abstractmethod
    def plan(self, args: argparse.Namespace) -> Conversion:
        """Return which file becomes which case. Names and headers are read here; voxels are read by the checks.

        Raises:
            UserError: If the folder is not this data set, or the options do not fit it.
        """

    def convert(self, args: argparse.Namespace) -> Result:
        """Plan, check and write the dataset.

        Raises:
            UserError: If options, data or target do not fit; nothing is written then.
        """
        if args.num_processes < 1:
            raise UserError(f"-np must be at least 1, got {args.num_processes}.")
        return write_dataset(self.plan(args), args.dataset_id, args.num_processes)


def add_val(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add ``--val`` for converters whose data set has no validation cases of its own; ``None`` lets the plan choose."""
    parser.add_argument(
        "--val",
        nargs="+",
        default=None if default is None else [default],
        metavar="N",
        help="validation: a number (the last ones of the order, the same for every budget), names, or 0 for a "
        f"cross-validation among the labeled ones (default: {default or 'a fifth'})",
    )


def add_leave_out(parser: argparse.ArgumentParser) -> None:
    """Add ``--leave-out``: faults that cannot be fixed are then left out by name, never silently."""
    parser.add_argument(
        "--leave-out", nargs="+", default=[], metavar="CASE", help="cases not to use, for example unreadable ones"
    )
