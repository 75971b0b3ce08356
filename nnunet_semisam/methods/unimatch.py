"""UniMatch (Yang et al., CVPR 2023, https://arxiv.org/abs/2208.09910)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.fixmatch import FixMatch, FixMatchSettings
from nnunet_semisam.methods.parts.features import ChangedFeatures, channel_dropout
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting

MEDICAL = "the authors' medical experiments: labeled 1, each strong view 0.25, features 0.5, all halved"


@dataclass(frozen=True, kw_only=True)
class UniMatchSettings(FixMatchSettings):
    """The settings of UniMatch: those of FixMatch, and the weights of its three terms."""

    loss: str = setting(
        "dice_ce", "Name of the loss on unlabeled images.", source="nnU-Net's; the authors': Dice alone"
    )
    strong_weight: float = setting(0.25, "Weight of the term of each strong view.", low=0, source=MEDICAL)
    feature_weight: float = setting(0.5, "Weight of the term of the changed features.", low=0, source=MEDICAL)
    dropout: float = setting(
        0.5, "Share of the feature channels that are dropped.", low=0, below=1, source="Yang et al. 2023, section 3.3"
    )


@register_method("unimatch")
class UniMatch(FixMatch):
    """FixMatch's target teaches the student on two strong views, and on the weak view with dropped features.

    Costs one forward pass for the target and three forward and backward passes.
    """

    Settings = UniMatchSettings
    strong_views = 2

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield three terms of one target: two strong views, and the weak view with dropped features."""
        settings = self.settings
        (strong,) = super().terms(student, labeled, unlabeled, progress)
        yield replace(strong, weight=settings.strong_weight)
        yield replace(strong, weight=settings.strong_weight, images=unlabeled.strong2, learn_pseudo=False)
        perturbed = ChangedFeatures(student, lambda features: channel_dropout(features, settings.dropout))
        yield replace(
            strong,
            weight=settings.feature_weight,
            images=unlabeled.weak,
            learn_pseudo=False,
            learner=perturbed,
            mixable=False,
        )
