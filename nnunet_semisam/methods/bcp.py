"""Bidirectional Copy-Paste (Bai et al., CVPR 2023, https://arxiv.org/abs/2305.00673)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.deep_supervision import nearest
from nnunet_semisam.methods.parts.mixing import box_mask, mix
from nnunet_semisam.methods.settings import UnmixedSettings
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting

PHASES = "Bai et al. 2023, section 4.1, ACDC: 10,000 steps of pre-training and 30,000 of self-training"


@dataclass(frozen=True, kw_only=True)
class BidirectionalCopyPasteSettings(UnmixedSettings, TeacherSettings):
    """The settings of Bidirectional Copy-Paste."""

    start: float = setting(
        0.25, "Fraction of the training before which the unlabeled terms are 0.", low=0, high=1, source=PHASES
    )
    pretraining: float = setting(
        0.25,
        "First phase, as a fraction of the training: boxes of labeled patches are pasted into labeled ones.",
        low=0,
        high=1,
        source=PHASES,
    )
    box_side: float = setting(
        2 / 3,
        "Side of the pasted box as a share of the patch's, along every axis.",
        above=0,
        below=1,
        source="Bai et al. 2023, section 4.1: beta = 2 / 3",
    )
    unlabeled_weight: float = setting(
        0.5,
        "Weight of a voxel from an unlabeled image; one from a labeled image has 1.",
        low=0,
        high=1,
        source="Bai et al. 2023, section 4.1: alpha = 0.5",
    )


@register_method("bcp")
class BidirectionalCopyPaste(TeacherMethod):
    """Boxes of labeled images in unlabeled ones and the other way round, each voxel with the label of its origin.

    Labels come with their image, so that half of what a mixed image teaches is right whatever the teacher predicts. In
    a first phase labeled patches are pasted into each other. Deviations from the paper: the student sees the strong
    view of the unlabeled image, the teacher's labels are not reduced to their largest component (nothing here says that
    a class has one), and the second phase waits for the gate.
    """

    Settings = BidirectionalCopyPasteSettings

    def augment_labeled(self, labeled: LabeledBatch, progress: float) -> LabeledBatch:
        """Return labeled patches with a box of their neighbour in the batch, in the first phase."""
        if progress >= self.settings.pretraining:
            return labeled
        box = box_mask(labeled.data.shape, labeled.data.device, self.settings.box_side)
        boxes = [nearest(box, level.shape[2:]).bool() for level in labeled.levels]
        levels = tuple(mix(level, mask) for level, mask in zip(labeled.levels, boxes, strict=True))
        return replace(labeled, data=mix(labeled.data, box), levels=levels)

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield two terms: labeled boxes in unlabeled images, and unlabeled boxes in labeled images."""
        probs = self.predict(self.teacher.network, unlabeled.weak)
        target = self.labels.hard(probs)
        confidence = self.settings.unlabeled_weight * self.confident(probs)
        term = UnlabeledTerm(unlabeled.strong, target, confidence, unlabeled.pseudo, mixable=False, counted=target)
        annotated = labeled.partners(len(target), self.labels)
        box = box_mask(target.shape, target.device, self.settings.box_side)
        # the first one is compared with the student: the frame of patches and their middle take turns
        for mask in (box, ~box) if frame_comes_first() else (~box, box):
            yield term.with_labeled(*annotated, mask)


def frame_comes_first() -> bool:
    """Return whether the first term of a step keeps what is around the box of an unlabeled image; by chance."""
    return torch.rand(1).item() < 0.5
