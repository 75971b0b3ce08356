"""Mean Teacher (Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn

from nnunet_semisam.methods.base import register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.features import ChangedFeatures, channel_dropout
from nnunet_semisam.methods.parts.mirrored_opinion import alikeness, predict_twice
from nnunet_semisam.methods.teacher import TeacherMethod, TeacherSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class MeanTeacherSettings(TeacherSettings):
    """The settings of Mean Teacher."""

    labeled_mix_probability: float = setting(
        0.5,
        """Probability, for each strong view, that a box of a labeled patch, or all of one but a box, is pasted into
        it, with its labels as target. 0 is Mean Teacher as it was published.""",
        low=0,
        high=1,
        source="docs/results.md; idea of Bidirectional Copy-Paste, https://arxiv.org/abs/2305.00673",
    )
    second_opinion: bool = setting(
        True,
        """Whether the teacher predicts each patch mirrored, too: the target is the mean, and the squared Dice of both
        predictions, of the active class on which they differ most, weighs the patch. One forward pass of the teacher
        more. false is Mean Teacher as it was published.""",
        source="docs/results.md",
    )
    feature_dropout: float = setting(
        0.0,
        """Share of the feature channels that the student lacks between encoder and decoder on strong views, in the same
        forward pass. 0 is Mean Teacher as it was published.""",
        low=0,
        below=1,
        source="idea and 0.5: UniMatch, Yang et al. 2023, section 3.3, where it is a pass of its own on the weak view",
    )


@register_method("mean_teacher")
class MeanTeacher(TeacherMethod):
    """The student on the strong view follows its moving average on the weak view."""

    Settings = MeanTeacherSettings

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the teacher's probabilities as the target."""
        predict = partial(self.predict, self.teacher.network)
        if self.settings.second_opinion:
            first, second = predict_twice(predict, unlabeled.weak)
            target, opinions = (first + second) / 2, alikeness(first, second, self.labels)
        else:
            target, opinions = predict(unlabeled.weak), None
        confidence, dropout = self.confident(target), self.settings.feature_dropout
        learner = ChangedFeatures(student, partial(channel_dropout, probability=dropout)) if dropout > 0 else None
        yield UnlabeledTerm(unlabeled.strong, target, confidence, unlabeled.pseudo, learner=learner, opinions=opinions)
