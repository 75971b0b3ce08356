"""Data sets as nnU-Net raw datasets with labeled and unlabeled cases: one data set per file, all in ``CONVERTERS``."""

from .command_line import convert_and_report, run_script
from .converter import CONVERTERS, DatasetConverter
from .Dataset027_ACDC import AcdcConverter
from .Dataset080_LA2018 import LAConverter
from .Dataset192_BHSD import BHSDConverter
from .from_nnunet import NNUNetConverter
from .from_reviewed import import_and_report
from .reading.case import Case, Conversion, Source
from .sparse_slices import SparseConverter

CONVERTERS.register("acdc")(AcdcConverter)
CONVERTERS.register("la")(LAConverter)
CONVERTERS.register("bhsd")(BHSDConverter)
CONVERTERS.register("nnunet")(NNUNetConverter)
CONVERTERS.register("sparse")(SparseConverter)

__all__ = [
    "CONVERTERS",
    "AcdcConverter",
    "BHSDConverter",
    "Case",
    "Conversion",
    "DatasetConverter",
    "LAConverter",
    "NNUNetConverter",
    "Source",
    "SparseConverter",
    "convert_and_report",
    "import_and_report",
    "run_script",
]
