"""Semi-supervised methods: one file each. Importing this package registers all of them and their settings."""

from nnunet_semisam.methods.base import METHODS, Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, PseudoLabel, UnlabeledBatch
from nnunet_semisam.methods.bcp import BidirectionalCopyPaste
from nnunet_semisam.methods.cps import CrossPseudoSupervision
from nnunet_semisam.methods.fixmatch import FixMatch
from nnunet_semisam.methods.mean_teacher import MeanTeacher
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.supervised import SupervisedOnly
from nnunet_semisam.methods.terms import UnlabeledTerm

__all__ = [
    "METHODS",
    "BidirectionalCopyPaste",
    "CrossPseudoSupervision",
    "FixMatch",
    "Host",
    "LabeledBatch",
    "MeanTeacher",
    "MethodSettings",
    "PseudoLabel",
    "SSLMethod",
    "SupervisedOnly",
    "UnlabeledBatch",
    "UnlabeledTerm",
    "register_method",
]
