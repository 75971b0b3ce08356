"""Uncertainty-aware Mean Teacher (Yu et al., MICCAI 2019, https://arxiv.org/abs/1907.07034)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.schedules import rampup
from nnunet_semisam.methods.parts.uncertainty import mean_of_noisy_passes, normalised_entropy
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class UncertaintyAwareMeanTeacherSettings(TeacherSettings):
    """The settings of the uncertainty-aware Mean Teacher."""

    loss: str = setting("mse", "Name of the loss on unlabeled images.", source="Yu et al. 2019, equation 4")
    weight: float = setting(
        0.1, "Final weight of the unlabeled terms.", low=0, source="published code: consistency 0.1"
    )
    passes: int = setting(
        8, "Noisy forward passes of the teacher per step.", low=1, high=64, source="Yu et al. 2019, section 3"
    )
    noise: float = setting(
        0.1, "Standard deviation of the noise, in units of normalised intensity.", low=0, source="published code"
    )
    noise_limit: float = setting(0.2, "Largest absolute value of the noise.", above=0, source="published code")
    entropy_start: float = setting(
        0.75,
        """Share of the largest entropy below which a voxel is learned, at the beginning; it rises to 1 over the
        training along a Gaussian ramp.""",
        low=0,
        high=1,
        source="Yu et al. 2019, section 3: from 3/4 of the largest uncertainty to all of it",
    )


@register_method("ua_mt")
class UncertaintyAwareMeanTeacher(TeacherMethod):
    """Mean Teacher in those voxels where the mean of noisy teacher passes is certain.

    Costs ``passes`` + 1 forward passes of the teacher per step. Deviations: nnU-Net's networks have no dropout, so that
    the passes differ by the noise of the images alone; and the error is averaged over all voxels, not over the certain
    ones, so that few certain voxels do not pull harder.
    """

    Settings = UncertaintyAwareMeanTeacherSettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the teacher's probabilities where it is certain enough by now."""
        settings, network = self.settings, self.teacher.network
        target = self.predict(network, unlabeled.weak)
        mean = mean_of_noisy_passes(
            lambda images: self.predict(network, images),
            unlabeled.weak,
            settings.passes,
            settings.noise,
            settings.noise_limit,
        )
        threshold = settings.entropy_start + (1 - settings.entropy_start) * rampup(progress, 0.0, 1.0)
        certain = (normalised_entropy(mean, self.labels) < threshold).float()
        yield UnlabeledTerm(unlabeled.strong, target, certain * self.confident(target), unlabeled.pseudo)
