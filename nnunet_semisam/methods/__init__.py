"""Semi-supervised methods: one file each. Importing this package registers all of them."""

from nnunet_semisam.methods.base import METHODS, LabeledBatch, LossTerms, PseudoLabel, SSLMethod, UnlabeledBatch
from nnunet_semisam.methods.mean_teacher import MeanTeacher

__all__ = [
    "METHODS",
    "LabeledBatch",
    "LossTerms",
    "MeanTeacher",
    "PseudoLabel",
    "SSLMethod",
    "UnlabeledBatch",
]
