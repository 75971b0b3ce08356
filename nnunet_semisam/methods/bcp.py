"""Bidirectional Copy-Paste (Bai et al., CVPR 2023, https://arxiv.org/abs/2305.00673)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.mixing import box_mask
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class BidirectionalCopyPasteSettings(TeacherSettings):
    """The settings of Bidirectional Copy-Paste."""

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

    Labels come with their image, so that half of what a mixed image teaches is right whatever the teacher predicts. Two
    deviations from the paper: the student sees the strong view of the unlabeled image, and the teacher's labels are not
    reduced to their largest component (nothing here says that a class has one).
    """

    Settings = BidirectionalCopyPasteSettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield two terms: labeled boxes in unlabeled images, and unlabeled boxes in labeled images."""
        probs = self.predict(self.teacher.network, unlabeled.weak)
        target = self.labels.hard(probs)
        confidence = self.settings.unlabeled_weight * self.confident(probs)
        term = UnlabeledTerm(unlabeled.strong, target, confidence, unlabeled.pseudo, mixable=False)
        annotated = labeled.partners(len(target), self.labels)
        box = box_mask(target.shape, target.device, self.settings.box_side)
        yield term.with_labeled(*annotated, box)
        yield replace(term, pseudo=None).with_labeled(*annotated, ~box)
