"""FixMatch (Sohn et al., NeurIPS 2020, https://arxiv.org/abs/2001.07685), for segmentation as in UniMatch's base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nnunet_semisam.methods.base import SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class FixMatchSettings(MethodSettings):
    """The settings of FixMatch."""

    loss: str = setting("cross_entropy", "Name of the loss on unlabeled images.", source="FixMatch, equation 4")
    confidence: float = setting(
        0.95,
        "Probability of the student on the weak view below which a voxel is not learned.",
        low=0,
        high=1,
        source="FixMatch, section 3; UniMatch uses 0.95 on medical images, https://arxiv.org/abs/2208.09910",
    )


@register_method("fixmatch")
class FixMatch(SSLMethod):
    """The student's own confident labels on the weak view teach it on the strong view."""

    Settings = FixMatchSettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the student's hard labels where it is confident."""
        probs = self.predict(student, unlabeled.weak)
        yield UnlabeledTerm(unlabeled.strong, self.labels.hard(probs), self.confident(probs), unlabeled.pseudo)
