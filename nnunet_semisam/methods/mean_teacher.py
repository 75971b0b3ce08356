"""Mean Teacher (Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nnunet_semisam.methods.base import LabeledBatch, UnlabeledBatch, UnlabeledTerm, register_method
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings


@dataclass(frozen=True, kw_only=True)
class MeanTeacherSettings(TeacherSettings):
    """The settings of Mean Teacher: those of every method with a teacher."""


@register_method("mean_teacher")
class MeanTeacher(TeacherMethod):
    """The student on the strong view follows its moving average on the weak view."""

    Settings = MeanTeacherSettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the teacher's probabilities as the target."""
        target = self.predict(self.teacher.network, unlabeled.weak)
        yield UnlabeledTerm(unlabeled.strong, target, self.confident(target), unlabeled.pseudo)
