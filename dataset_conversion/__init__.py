"""Data sets as nnU-Net raw datasets with labeled and unlabeled cases: one data set per file, all in ``CONVERTERS``."""

from .case import Case, Conversion, Source
from .common import CONVERTERS, DatasetConverter
from .Dataset027_ACDC import AcdcConverter

CONVERTERS.register("acdc")(AcdcConverter)

__all__ = ["CONVERTERS", "AcdcConverter", "Case", "Conversion", "DatasetConverter", "Source"]
