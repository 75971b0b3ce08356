"""Interpolation Consistency Training (Verma et al., IJCAI 2019, https://arxiv.org/abs/1903.03825)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.mixing import interpolate, interpolation_shares
from nnunet_semisam.methods.settings import UnmixedSettings
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class InterpolationConsistencySettings(UnmixedSettings, TeacherSettings):
    """The settings of Interpolation Consistency Training."""

    loss: str = setting("mse", "Name of the loss on unlabeled images.", source="Verma et al. 2019, equation 2")
    weight: float = setting(0.1, "Final weight of the unlabeled terms.", low=0, source="SSL4MIS: consistency 0.1")
    alpha: float = setting(
        0.2,
        "Both parameters of the Beta distribution that shares are drawn from; the smaller, the nearer to 0 or 1.",
        above=0,
        high=100,
        source="SSL4MIS; Verma et al. 2019 try 0.1 to 1",
    )


@register_method("ict")
class InterpolationConsistency(TeacherMethod):
    """The student's prediction of a mean of two images follows the same mean of the teacher's two predictions.

    Each patch of a batch is mixed with its neighbour; with one patch there is nothing to mix, and the method is a Mean
    Teacher on the weak view. Stored pseudo-labels are learned on the strong view, since a voxel of a mixed image has
    two labels; this costs one more pass where there are any.
    """

    Settings = InterpolationConsistencySettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield the mixed images, and the strong view if there are stored pseudo-labels."""
        target = self.predict(self.teacher.network, unlabeled.weak)
        share = interpolation_shares(len(target), target.ndim, self.settings.alpha, target.device)
        confidence = self.voxel_confidence(target, unlabeled.weak)
        if unlabeled.pseudo is not None:  # a voxel of a mixed image has two labels: what is contradicted goes before
            confidence = unlabeled.pseudo.left_of(confidence, unlabeled.pseudo.contradicts(self.labels.hard(target)))
        images, mixed, believed = (interpolate(values, share) for values in (unlabeled.weak, target, confidence))
        yield UnlabeledTerm(images, mixed, believed, mixable=False, counted=target)
        if unlabeled.pseudo is not None:
            nothing = torch.zeros_like(confidence)  # of the target: the pseudo-label alone is learned here
            yield UnlabeledTerm(unlabeled.strong, target, nothing, unlabeled.pseudo, weight=0.0, mixable=False)

    def voxel_confidence(self, target: Tensor, images: Tensor) -> Tensor:
        """Return how far each voxel of a target ``(B, K, *S)`` is believed, ``(B, 1, *S)``, in [0, 1]."""
        return self.confident(target)
