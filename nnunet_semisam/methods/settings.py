"""The settings that every method has which learns from unlabeled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnunet_semisam.errors import UserError
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES
from nnunet_semisam.settings import SettingsBlock, setting


@dataclass(frozen=True, kw_only=True)
class MethodSettings(SettingsBlock):
    """What every method that learns from unlabeled images has; a method's own block adds to it or changes defaults.

    Attributes:
        trained_sam: Of a method that trains a SAM: the name of its setting that names the model. The model's block of
            settings is then one that the run uses: it stands in the checkpoint and the hash, and an adapter that has
            seen other labels is refused.
    """

    trained_sam: ClassVar[str | None] = None

    loss: str = setting(
        "dice_ce",
        "Name of the loss on unlabeled images (`mse`, `cross_entropy`, `dice_ce`, `confidence_aware`).",
    )
    weight: float = setting(1.0, "Final weight of the unlabeled terms; nnU-Net's supervised loss has weight 1.", low=0)
    start: float = setting(0.0, "Fraction of the training before which the unlabeled terms are 0.", low=0, high=1)
    ramp_from: str = setting(
        "gate",
        """Where the ramp begins: where the `gate` opened (not before `start`), or at `start` of the `training`. The
        gate of a long training opens early, that of a short one late: a ramp that is over before it opens is none.""",
        choices=("gate", "training"),
    )
    rampup: float = setting(0.1, "Length of the ramp from 0 to `weight`, as a fraction of the training.", low=0, high=1)
    ramp_exponent: float = setting(
        5.0,
        "How steep the ramp is: it rises from exp(-ramp_exponent) to 1.",
        low=0,
        source="Laine & Aila, ICLR 2017, section 2.1, https://arxiv.org/abs/1610.02242",
    )
    confidence: float = setting(0.0, "Probability of the target below which a voxel is not learned.", low=0, high=1)
    deep_supervision: bool = setting(
        False,
        """Whether unlabeled terms and stored pseudo-labels are learned at all levels of the decoder, with nnU-Net's
        weights, as labels are; else at the finest level alone.""",
        source="nnFilterMatch, https://arxiv.org/abs/2509.19746: all levels",
    )
    cutmix_probability: float = setting(
        0.5,
        "Probability that the strong views of a batch are mixed by CutMix.",
        low=0,
        high=1,
        source="UniMatch, https://arxiv.org/abs/2208.09910",
    )
    labeled_mix_probability: float = setting(
        0.0,
        """Probability, for each strong view, that a box of a labeled patch, or all of one but a box, is pasted into
        it, with its labels as target. The boxes are those of CutMix.""",
        low=0,
        high=1,
        source="idea of Bidirectional Copy-Paste, Bai et al., CVPR 2023, https://arxiv.org/abs/2305.00673",
    )
    histogram_matching_probability: float = setting(
        0.0,
        """Probability, for each labeled patch, that its intensities are moved towards the histogram of an unlabeled
        patch of the step, by a share drawn between 0 and 1: labels stay right, and the few labeled cases take on the
        contrasts of the many unlabeled ones. Noise and contrast changes come first, so that where a patch reaches
        beyond its image, the padding counts as anatomy.""",
        low=0,
        high=1,
        source="idea of Fourier domain adaptation, Yang & Soatto, CVPR 2020, https://arxiv.org/abs/2004.05498",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        UNLABELED_LOSSES.get(self.loss)  # an unknown loss is an error now, not in the first unlabeled step
        if self.start + self.rampup > 1 + 1e-9:
            raise UserError(
                "The settings start and rampup are fractions of the training and must add up to at most 1, got "
                f"{self.start:g} and {self.rampup:g}: the ramp would not end before the training does."
            )


@dataclass(frozen=True, kw_only=True)
class UnmixedSettings(MethodSettings):
    """What a method has whose images the driver does not mix: BCP mixes them itself, DAN looks at whole ones."""

    cutmix_probability: float = setting(
        0.0, "Always 0: this method mixes images in its own way, or not.", low=0, high=0
    )
    labeled_mix_probability: float = setting(0.0, "Always 0, as `cutmix_probability`.", low=0, high=0)


@dataclass(frozen=True, kw_only=True)
class UntargetedSettings(SettingsBlock):
    """What a method has that compares its student with no target: URPC and DAN bring losses of their own.

    It changes two settings of :class:`MethodSettings`, and stands before it among the bases of a block.
    """

    loss: str = setting("dice_ce", "Not used: this method has a loss of its own.", choices=("dice_ce",))
    confidence: float = setting(0.0, "Always 0: there is no target that could be unsure.", low=0, high=0)
