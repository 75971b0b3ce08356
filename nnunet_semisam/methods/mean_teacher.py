"""Mean Teacher with a gate (Tarvainen & Valpola, NeurIPS 2017, https://arxiv.org/abs/1703.01780).

The student on the strong view follows an exponential moving average of itself on the weak view. Three things keep it
from confirming its own mistakes: a class speaks only when the teacher finds it on labeled patches (``maturity.py``),
what it claims is bounded by what labeled cases show (``area_prior.py``), and voxels of low confidence can be left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nnunet_semisam.gate.area_prior import AreaPrior
from nnunet_semisam.gate.teacher_dice import SPEAKS, MaturityGate, merge_rest, named_classes
from nnunet_semisam.methods.base import METHODS, LabeledBatch, LossTerms, PseudoLabel, SSLMethod, UnlabeledBatch
from nnunet_semisam.methods.parts.ema import MovingAverage
from nnunet_semisam.methods.parts.losses import CONSISTENCY_LOSSES, hard_target, probabilities
from nnunet_semisam.methods.parts.mixing import cutmix_mask, mix
from nnunet_semisam.methods.parts.schedules import rampup
from nnunet_semisam.settings.config import SemiSAMConfig

MEASURE_EVERY = 10  # steps between two measurements of the teacher: on labeled patches, and against the student


def finest(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return the full-resolution output of a network with or without deep supervision."""
    return output[0] if isinstance(output, (list, tuple)) else output


@METHODS.register("mean_teacher")
class MeanTeacher(SSLMethod):
    """Consistency of the student with its moving average."""

    def __init__(self, config: SemiSAMConfig, num_channels: int, has_regions: bool = False) -> None:
        super().__init__(config, num_channels, has_regions)
        self.loss = CONSISTENCY_LOSSES.get(config.consistency_loss)
        self.gate = MaturityGate(num_channels, config.maturity_dice, has_regions)
        self.area = AreaPrior(num_channels, config.area_prior_factor, has_regions)
        self.started = config.maturity_start == "any"
        self.agreement = MaturityGate(num_channels, 0.0, has_regions)  # of student and teacher, on unlabeled patches

    def setup(self, student: nn.Module, build_network: Callable[[], nn.Module]) -> None:
        """Build the teacher as a copy of the student."""
        self.teacher = MovingAverage(build_network(), self.config.ema_decay)
        self.teacher.copy_from(student)

    def on_train_start(self, student: nn.Module) -> None:
        """Copy the student again: pretrained weights arrive after the setup."""
        self.teacher.copy_from(student)

    def unsupervised_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> LossTerms:
        """Return the consistency of the student on the strong view with the teacher on the weak view.

        Nothing is computed on unlabeled patches while no class may speak and no pseudo-label asks for the logits.
        """
        if self.teacher.step % MEASURE_EVERY == 0:
            self._measure(labeled)
        config = self.config
        weight = config.consistency_weight * rampup(progress, config.consistency_start, config.consistency_rampup)
        speaks = weight > 0 and self._has_started() and bool(self.gate.class_trust().max() >= SPEAKS)
        if not speaks and unlabeled.pseudo is None:
            return LossTerms(None, self._log(0.0, weight, 0.0))
        target = self._teacher_probs(unlabeled.weak)
        class_trust = self._class_trust(target)
        strong, target, pseudo = self._mix(unlabeled, target)
        logits = finest(student(strong))
        if self.teacher.step % MEASURE_EVERY == 0:
            self._compare(logits, target)
        if not speaks:
            return LossTerms(None, self._log(0.0, weight, 0.0), logits, pseudo)
        raw, trusted = self._consistency(logits, target, class_trust, pseudo)
        return LossTerms(weight * raw, self._log(float(raw.detach()), weight, trusted), logits, pseudo)

    def _consistency(
        self, logits: Tensor, target: Tensor, class_trust: Tensor, pseudo: PseudoLabel | None
    ) -> tuple[Tensor, float]:
        """Return the raw loss and the mean trust of its voxels.

        A trusted pseudo-label has seen the whole case and asked a second witness: where it says otherwise, the teacher
        is not believed.
        """
        contradicted = None if pseudo is None else self._contradicted(target, pseudo)
        if not self.has_regions:
            class_trust = named_classes(class_trust)
            logits, target = merge_rest(logits, target, class_trust)
        trust = self._trust(target, class_trust)
        if contradicted is not None:
            trust = trust.masked_fill(contradicted, 0.0)
        return self.loss(logits, target, trust, class_trust, self.has_regions), float(trust.mean())

    def _contradicted(self, target: Tensor, pseudo: PseudoLabel) -> Tensor:
        """Return where a trusted pseudo-label names something else than the teacher, ``(B, 1, *S)``, bool."""
        if self.has_regions:
            differs = (hard_target(target, True) != pseudo.target).any(dim=1, keepdim=True)
        else:
            differs = pseudo.target.gather(1, target.max(dim=1, keepdim=True).indices) == 0
        return differs & (pseudo.trust > 0)

    def _has_started(self) -> bool:
        """Return whether every class has been named once (or the settings do not wait for that)."""
        foreground = self.gate.class_trust()[0 if self.has_regions else 1 :]
        self.started = self.started or bool((foreground >= SPEAKS).all())
        return self.started

    @torch.no_grad()
    def _measure(self, labeled: LabeledBatch) -> None:
        truth, valid = labeled.truth(self.num_channels)
        prediction = hard_target(self._teacher_probs(labeled.data), self.has_regions)
        self.gate.measure(prediction, truth, valid)
        random = slice(0, max(1, labeled.num_random))
        self.area.count("labeled", truth[random], valid[random])

    @torch.no_grad()
    def _compare(self, logits: Tensor, target: Tensor) -> None:
        student, teacher = (
            hard_target(x.float(), self.has_regions) for x in (probabilities(logits, self.has_regions), target)
        )
        self.agreement.measure(student, teacher, torch.ones_like(teacher[:, :1]))

    def expected_dice(self) -> float:
        """Return how far student (strong view) and teacher (weak view) agree on unlabeled patches: mean Dice.

        Two views of one case disagree where a network is unsure of new cases; no label is needed to see it. Before
        anything was compared, the teacher's Dice on labeled patches, which is too optimistic, stands in.
        """
        measured = self.agreement if self.agreement.size.sum() > 0 else self.gate
        dice = measured.dice()
        return float(dice.mean() if self.has_regions else dice[1:].mean())

    @torch.no_grad()
    def _teacher_probs(self, data: Tensor) -> Tensor:
        return probabilities(finest(self.teacher.network(data)), self.has_regions)

    def _class_trust(self, target: Tensor) -> Tensor:
        centred = self.config.oversample_pseudo_foreground if self.config.use_sam else 0.0
        random = slice(0, max(1, round(len(target) * (1 - centred))))  # the loader puts centred patches last
        self.area.count("unlabeled", hard_target(target[random], self.has_regions))
        return (self.gate.class_trust() * self.area.class_trust()).to(target.device)

    def _mix(self, unlabeled: UnlabeledBatch, target: Tensor) -> tuple[Tensor, Tensor, PseudoLabel | None]:
        strong, pseudo = unlabeled.strong, unlabeled.pseudo
        if len(strong) < 2 or torch.rand(1).item() >= self.config.cutmix_probability:
            return strong, target, pseudo
        mask = cutmix_mask(strong.shape, strong.device)
        if pseudo is not None:
            pseudo = PseudoLabel(mix(pseudo.target, mask), mix(pseudo.trust, mask))
        return mix(strong, mask), mix(target, mask), pseudo

    def _trust(self, target: Tensor, class_trust: Tensor) -> Tensor:
        """Return how far each voxel of the teacher may be believed, ``(B, 1, *S)``."""
        if self.has_regions:  # each region has a say of its own in the loss; here only confidence counts
            confidence = torch.maximum(target, 1 - target).min(dim=1, keepdim=True).values
            return (confidence >= self.config.consistency_confidence).float()
        confidence, label = target.max(dim=1, keepdim=True)
        return class_trust[label] * (confidence >= self.config.consistency_confidence)

    def _log(self, raw: float, weight: float, trusted: float) -> dict[str, float]:
        dice = {f"teacher_dice_{k}": float(value) for k, value in enumerate(self.gate.dice())}
        speaks = {f"class_trust_{k}": float(value) for k, value in enumerate(self.class_trust())}
        terms = {
            "expected_dice": self.expected_dice(),
            "consistency": raw,
            "consistency_weight": weight,
            "consistency_weighted": weight * raw,
        }
        return terms | {"consistency_trusted": trusted} | dice | speaks

    def after_step(self, student: nn.Module) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(student)

    def deployable(self, student: nn.Module) -> nn.Module:
        """Return the teacher, or the student if the configuration says so."""
        return self.teacher.network if self.config.deploy == "teacher" else student

    def opinion(self, student: nn.Module) -> nn.Module:
        """Return the teacher."""
        return self.teacher.network

    def class_trust(self) -> list[float]:
        """Return maturity times area prior, per output channel."""
        return (self.gate.class_trust() * self.area.class_trust()).tolist()

    def state_dict(self) -> dict:
        """Return the teacher and what was measured."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"started": self.started}

    def load_state_dict(self, state: dict) -> None:
        """Restore the teacher and what was measured."""
        self.started = state["started"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, MovingAverage | MaturityGate | AreaPrior]:
        return {"teacher": self.teacher, "gate": self.gate, "area": self.area, "agreement": self.agreement}
