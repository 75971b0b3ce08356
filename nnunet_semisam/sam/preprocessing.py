"""How a 2D SAM wants its images: data, not code. All 2D families differ only here. Standard library only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

# Part of every fingerprint: raise it whenever frame.py or a backend's geometry changes what a SAM sees.
VERSION = 3


@dataclass(frozen=True)
class Preprocessing:
    """From a grey slice to the input of a 2D SAM.

    Attributes:
        side: Side of the square input in pixels.
        keep_aspect: Whether the longest side of the image fits the input and the rest is padded at the bottom and
            right; else both sides are stretched to ``side``.
        intensity: Rule that maps the image to [0, ``top``], see :data:`nnunet_semisam.sam.frame.INTENSITY_RULES`.
        percentiles: Shares of the voxels below the lower and the upper end of the stretched range, in [0, 1]; for the
            rule ``percentiles``.
        top: Largest intensity after the rule.
        mean: Subtracted from each channel of the input; its length is the number of channels.
        std: Divides each channel of the input.
    """

    side: int
    keep_aspect: bool = True
    intensity: str = "percentiles"
    percentiles: tuple[float, float] = (0.005, 0.995)
    top: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for fingerprints."""
        return dataclasses.asdict(self) | {"version": VERSION}


# ImageNet's mean and standard deviation in 0..255, as in segment_anything/build_sam.py.
SEGMENT_ANYTHING = Preprocessing(side=1024, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
# Square, in [0, 1], not normalised, as in MedSAM's pre_CT_MR.py and MedSAM_Inference.py, which also clip MR at these
# percentiles. The window of CT cannot be applied here: nnU-Net's normalisation has clipped and shifted the units.
MEDSAM = Preprocessing(side=1024, keep_aspect=False, top=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
# As in LiteMedSAM's CVPR24_LiteMedSAM_infer.py.
LITE_MEDSAM = dataclasses.replace(MEDSAM, side=256, keep_aspect=True)
# Square, with segment-anything's mean and standard deviation, as in SAM-Med2D's predictor_sammed.py.
SAM_MED2D = dataclasses.replace(SEGMENT_ANYTHING, side=256, keep_aspect=False)
NANO = Preprocessing(side=224, mean=(127.5,), std=(63.75,))
# ImageNet's mean and standard deviation in 0..1, as in sam2/utils/transforms.py, which stretches both sides.
SAM2 = Preprocessing(side=1024, keep_aspect=False, top=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
