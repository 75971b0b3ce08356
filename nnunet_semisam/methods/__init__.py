"""Semi-supervised methods: one file each. Importing this package registers all of them and their settings."""

from nnunet_semisam.methods.base import METHODS, Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, PseudoLabel, UnlabeledBatch
from nnunet_semisam.methods.bcp import BidirectionalCopyPaste
from nnunet_semisam.methods.cpc_sam import CPCSAM
from nnunet_semisam.methods.cps import CrossPseudoSupervision
from nnunet_semisam.methods.dan import DeepAdversarialNetwork
from nnunet_semisam.methods.fixmatch import FixMatch
from nnunet_semisam.methods.ict import InterpolationConsistency
from nnunet_semisam.methods.mcicsam import MonteCarloInterpolation
from nnunet_semisam.methods.mean_teacher import MeanTeacher
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.sss import SSS
from nnunet_semisam.methods.supervised import SupervisedOnly
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.methods.ua_mt import UncertaintyAwareMeanTeacher
from nnunet_semisam.methods.unimatch import UniMatch
from nnunet_semisam.methods.urpc import PyramidConsistency

__all__ = [
    "CPCSAM",
    "METHODS",
    "SSS",
    "BidirectionalCopyPaste",
    "CrossPseudoSupervision",
    "DeepAdversarialNetwork",
    "FixMatch",
    "Host",
    "InterpolationConsistency",
    "LabeledBatch",
    "MeanTeacher",
    "MethodSettings",
    "MonteCarloInterpolation",
    "PseudoLabel",
    "PyramidConsistency",
    "SSLMethod",
    "SupervisedOnly",
    "UncertaintyAwareMeanTeacher",
    "UniMatch",
    "UnlabeledBatch",
    "UnlabeledTerm",
    "register_method",
]
