"""Rules by which unlabeled cases are suggested for annotation: one file each, all in ``RULES``."""

from nnunet_semisam.annotation.suggestions import (
    class_stratified,
    disagreement,
    diversity,
    entropy,
    foreground_random,
)
from nnunet_semisam.annotation.suggestions.base import RULES, CaseEvidence, Request, Suggestion

__all__ = [
    "RULES",
    "CaseEvidence",
    "Request",
    "Suggestion",
    "class_stratified",
    "disagreement",
    "diversity",
    "entropy",
    "foreground_random",
]
