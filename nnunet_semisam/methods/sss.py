"""SSS: semi-supervised SAM-2 with physically constrained prompts (Zhu et al., https://arxiv.org/abs/2506.08949)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.methods.base import Host, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.dfe import FeatureEnhancement
from nnunet_semisam.methods.parts.features import ComplementaryDropout, Features
from nnunet_semisam.methods.parts.networks import encoder_channels, encoder_features, evaluating, forward_with
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting

V2 = "UniMatch V2, https://arxiv.org/abs/2410.10777, which SSS builds on"


@dataclass(frozen=True, kw_only=True)
class SSSSettings(TeacherSettings):
    """The settings of SSS."""

    loss: str = setting("cross_entropy", "Name of the loss on unlabeled images.", source=V2)
    confidence: float = setting(
        0.95, "Probability of the teacher below which a voxel is not learned.", low=0, high=1, source=V2
    )
    ema_decay: float | None = setting(
        0.996, "Share of the old teacher kept per step; null: by the length of the training.", low=0, below=1, source=V2
    )
    strong_weight: float = setting(0.5, "Weight of the term of each strong view.", low=0, source=V2)
    second_view: bool = setting(True, "Whether there are two strong views; else one, of twice the weight.", source=V2)
    dropout: float = setting(
        0.5, "Probability, for each image, of complementary channel dropout.", low=0, high=1, source=V2
    )
    enhancement: bool = setting(
        True, "Whether features are enhanced (DFE): the parts are the paper's, the formulas ours.", source="SSS, DFE"
    )


@dataclass(frozen=True)
class EnhancedStudent:
    """The student on a strong view, with features enhanced by those of the weak view; learns with ``enhancement``.

    Attributes:
        network: The student.
        enhancement: ``None`` without.
        dropout: Changes the features afterwards.
    """

    network: nn.Module
    enhancement: FeatureEnhancement | None
    dropout: Callable[[Features], Features]

    def __call__(self, images: Tensor, weak: Tensor) -> Tensor | list[Tensor]:
        """Return logits of strong images ``(B, C, *S)``, given the weak view of the same voxels."""
        if self.enhancement is None:
            return forward_with(self.network, images, self.dropout)
        with torch.no_grad(), evaluating(self.network):
            others = encoder_features(self.network, weak)
        return forward_with(self.network, images, lambda features: self.dropout(self.enhancement(features, others)))


@register_method("sss")
class SSS(TeacherMethod):
    """The teacher's confident labels teach the student on two strong views whose features are enhanced and dropped.

    The prompts with physical constraints are the component filter ``chains`` of a SAM's block. Costs one forward pass
    of the teacher, two forward and backward passes of the student, and two of its encoder. Deviation: encoder and
    decoder are nnU-Net's; SAM-2's supervise through the prompts, so that the prediction needs neither it nor the
    enhancement.
    """

    Settings = SSSSettings
    strong_views = 2
    enhancement: FeatureEnhancement | None = None

    def setup(self, student: nn.Module, host: Host) -> None:
        """Build the teacher and the enhancement."""
        super().setup(student, host)
        if self.settings.enhancement:
            device = next(student.parameters()).device
            self.enhancement = FeatureEnhancement(encoder_channels(student), host.spatial_dims).to(device)
            self.optimizer = host.optimizer_for(self.enhancement.parameters())

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield a term for each strong view."""
        settings = self.settings
        probs = self.predict(self.teacher.network, unlabeled.weak)
        target, confidence = self.labels.hard(probs), self.confident(probs)
        drop = ComplementaryDropout(settings.dropout)
        views = [(unlabeled.strong, drop.first, True), (unlabeled.strong2, drop.second, False)]
        weight = settings.strong_weight * (1 if settings.second_view else 2)
        for images, dropout, first in views if settings.second_view else views[:1]:
            learner = EnhancedStudent(student, self.enhancement, dropout)
            yield UnlabeledTerm(
                images,
                target,
                confidence,
                unlabeled.pseudo,
                learner=learner,
                weight=weight,
                companion=unlabeled.weak,
                learn_pseudo=first,
            )

    def optimizers(self) -> list[Optimizer]:
        """Return the optimiser of the enhancement."""
        return [self.optimizer] if self.settings.enhancement else []

    def state_parts(self) -> dict[str, Any]:
        """Return the teacher and the enhancement."""
        return super().state_parts() | ({"enhancement": self.enhancement} if self.settings.enhancement else {})
