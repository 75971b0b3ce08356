"""Interpolation consistency weighed by Monte-Carlo uncertainty (MCICSAM, https://arxiv.org/abs/2409.13371)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.ict import InterpolationConsistency, InterpolationConsistencySettings
from nnunet_semisam.methods.parts.uncertainty import mean_of_noisy_passes, normalised_entropy
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class MonteCarloInterpolationSettings(InterpolationConsistencySettings):
    """The settings of interpolation consistency weighed by Monte-Carlo uncertainty; the paper's are not known."""

    passes: int = setting(8, "Noisy forward passes of the teacher per step.", low=1, high=64, source="ours, as UA-MT")
    noise: float = setting(
        0.1, "Standard deviation of the noise, in units of normalised intensity.", low=0, source="ours, as UA-MT"
    )
    noise_limit: float = setting(0.2, "Largest absolute value of the noise.", above=0, source="ours, as UA-MT")


@register_method("mcicsam")
class MonteCarloInterpolation(InterpolationConsistency):
    """Interpolation consistency; an uncertain voxel of either image counts less in the mixed one.

    What is published is the abstract: interpolation consistency between a student and its moving average, weighed by
    Monte-Carlo uncertainty, in a SAM with low-rank adapters. Our reading of the weight is 1 minus the entropy (relative
    to its largest value) of the mean over noisy passes. Deviation: the network is nnU-Net's, so that it is planned,
    predicted and shipped as always; the SAM supervises it with pseudo-labels (``use_sam``).
    """

    Settings = MonteCarloInterpolationSettings

    def voxel_confidence(self, target: Tensor, images: Tensor) -> Tensor:
        """Return one minus the uncertainty of noisy passes; see :class:`InterpolationConsistency`."""
        settings, network = self.settings, self.teacher.network
        mean = mean_of_noisy_passes(
            lambda noisy: self.predict(network, noisy), images, settings.passes, settings.noise, settings.noise_limit
        )
        return (1 - normalised_entropy(mean, self.labels)).clamp(0, 1) * self.confident(target)
