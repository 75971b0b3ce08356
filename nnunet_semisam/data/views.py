"""Weak and strong views of an unlabeled patch, made from nnU-Net's own augmentation.

nnU-Net's training transforms are split by an explicit table: what moves voxels makes the weak view, what changes
intensities is added on top for the strong view. So both views show the same anatomy at the same voxel.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from torch import Tensor

from nnunet_semisam.errors import UserError

SPATIAL = {"SpatialTransform", "MirrorTransform", "Convert3DTo2DTransform", "Convert2DTo3DTransform"}
INTENSITY = {
    "GaussianNoiseTransform",
    "GaussianBlurTransform",
    "MultiplicativeBrightnessTransform",
    "ContrastTransform",
    "SimulateLowResolutionTransform",
    "GammaTransform",
}
# Labels only: an unlabeled patch has none, pseudo-labels keep -1 (no label) and are converted below.
# MaskImageTransform reads the label channel; the views apply the mask of an unlabeled case themselves.
FOR_LABELS = {
    "RemoveLabelTransform",
    "DownsampleSegForDSTransform",
    "ConvertSegmentationToRegionsTransform",
    "MaskImageTransform",
}

# nnU-Net interpolates each label of a ground truth by itself and takes the strongest; a pseudo-label is not exact to a
# part of a voxel, and the nearest neighbour takes one pass for all labels.
NEAREST = "nearest"


def _flat(transform: BasicTransform) -> Iterator[BasicTransform]:
    if isinstance(transform, ComposeTransforms):
        for part in transform.transforms:
            yield from _flat(part)
    else:
        yield transform


def _unwrapped(transform: BasicTransform) -> BasicTransform:
    return transform.transform if isinstance(transform, RandomTransform) else transform


def _name(transform: BasicTransform) -> str:
    return type(_unwrapped(transform)).__name__


def switch_off_benchmarks(transforms: BasicTransform) -> None:
    """Stop ``GaussianBlurTransform`` from choosing its algorithm by timing, which no seed reproduces."""
    for transform in _flat(transforms):
        inner = _unwrapped(transform)
        if getattr(inner, "benchmark", False):
            inner.benchmark = False


class UnlabeledViews:
    """Turns a cropped patch into a weak and a strong view. Picklable; one object per worker.

    Args:
        training_transforms: What ``nnUNetTrainer.get_training_transforms`` returned.
        intensity_scale: Factor on the probability of every intensity transform, clipped at probability 1.
        masked_channels: Image channels that are 0 outside the mask of the case (``use_mask_for_norm``).
        regions: Regions (each a tuple of labels) that pseudo-labels are converted to; ``None`` for classes.
        strong_views: How many strong views to make, 1 or 2; each gets intensities of its own.

    Raises:
        UserError: If the augmentation holds a transform that is in no table.
    """

    def __init__(
        self,
        training_transforms: BasicTransform,
        intensity_scale: float,
        masked_channels: Iterable[int] = (),
        regions: list | None = None,
        strong_views: int = 1,
    ) -> None:
        self.strong_names = ("strong", "strong2")[:strong_views]
        self.spatial: list[BasicTransform] = []
        self.intensity: list[BasicTransform] = []
        self.masked_channels = list(masked_channels)
        self.to_regions = ConvertSegmentationToRegionsTransform(regions) if regions else None
        for transform in _flat(copy.deepcopy(training_transforms)):
            self._file(transform, intensity_scale)

    def _file(self, transform: BasicTransform, intensity_scale: float) -> None:
        name = _name(transform)
        if name in SPATIAL:
            if name == "SpatialTransform":
                _unwrapped(transform).mode_seg = NEAREST
            self.spatial.append(transform)
        elif name in INTENSITY:
            if isinstance(transform, RandomTransform):
                transform.apply_probability = min(1.0, transform.apply_probability * intensity_scale)
            self.intensity.append(transform)
        elif name not in FOR_LABELS:
            raise UserError(
                f"The augmentation holds {name}, and nnunet-semisam does not know whether it moves voxels or changes "
                "intensities. Add it to the table of transforms in nnunet_semisam/data/views.py."
            )

    def __call__(
        self, image: Tensor, inside: Tensor | None = None, label: Tensor | None = None, confidence: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Augment one patch.

        Args:
            image: ``(C, *S)``, float32.
            inside: Mask of the case, ``(1, *S)``, int16: 0 inside, -1 outside. Needed with ``masked_channels``.
            label: Pseudo-label, ``(1, *S)``, int16: -1 where nothing is claimed.
            confidence: ``(1, *S)``, float32 in [0, 1].

        Returns:
            ``weak`` and ``strong`` (and ``strong2``), ``(C, *S)`` each. With a pseudo-label also ``pseudo_label``
            (``(1, *S)`` int16, or ``(R, *S)`` bool for regions) and ``pseudo_confidence`` ``(1, *S)``, 0 wherever there
            is no label.
        """
        channels = [channel for channel in (label, inside) if channel is not None]
        # The confidence is one more image channel, interpolated alike; a segmentation channel would be rounded.
        sample = {"image": image if confidence is None else torch.cat([image, confidence])}
        if channels:
            sample["segmentation"] = torch.cat(channels)
        for transform in self.spatial:
            sample = transform(**sample)
        confidence = sample["image"][len(image) :]
        sample["image"] = sample["image"][: len(image)]
        moved = sample.get("segmentation")
        outside = None if inside is None else moved[-1] < 0
        views = {"weak": sample["image"]}
        for name in self.strong_names:
            strong = {"image": sample["image"].clone()}
            for transform in self.intensity:
                strong = transform(**strong)
            views[name] = strong["image"]
        if outside is not None:
            for view in views.values():
                view[self.masked_channels] = view[self.masked_channels].masked_fill(outside, 0.0)
        return views if label is None else views | self._pseudo(moved[:1], confidence)

    def _pseudo(self, label: Tensor, confidence: Tensor) -> dict[str, Tensor]:
        confidence = confidence.clamp(0.0, 1.0).masked_fill(label < 0, 0.0)
        if self.to_regions is not None:
            label = self.to_regions(segmentation=label)["segmentation"]
        return {"pseudo_label": label, "pseudo_confidence": confidence}
