"""Data sets as nnU-Net raw datasets with labeled and unlabeled cases: one data set per file, all in ``CONVERTERS``."""

from .case import Case, Conversion, Source
from .common import CONVERTERS, DatasetConverter
from .Dataset027_ACDC import AcdcConverter
from .Dataset080_LA2018 import LAConverter

CONVERTERS.register("acdc")(AcdcConverter)
CONVERTERS.register("la")(LAConverter)

__all__ = ["CONVERTERS", "AcdcConverter", "Case", "Conversion", "DatasetConverter", "LAConverter", "Source"]
