"""Plain nnU-Net as a method: the baseline that every other is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nnunet_semisam.methods.base import SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import SettingsBlock


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings(SettingsBlock):
    """Nothing to set: the length of the training is in the flat settings."""


@register_method("supervised")
class SupervisedOnly(SSLMethod):
    """No unlabeled case is opened, and every step is nnU-Net's own."""

    Settings = SupervisedSettings
    uses_unlabeled = False

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield nothing."""
        return iter(())
