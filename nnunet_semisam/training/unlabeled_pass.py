"""The driver of all methods: gate, mixing, forward pass, loss, pseudo-label term and log of unlabeled patches.

A method yields terms; everything that does not depend on the method's idea happens here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nnunet_semisam.gate.class_gate import ClassGate
from nnunet_semisam.methods.base import SSLMethod
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.deep_supervision import level_weights
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES
from nnunet_semisam.methods.parts.mixing import CutMixSettings, cutmix_mask, labeled_mix_mask
from nnunet_semisam.methods.parts.networks import finest
from nnunet_semisam.methods.parts.schedules import rampup
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.pseudo_labels.term import PseudoLabelTerm


@dataclass
class PassLog:
    """Sums over the terms of one step; tensors stay on their device until the step is over."""

    unlabeled_loss: list[Tensor] = field(default_factory=list)
    unlabeled_extra: list[Tensor] = field(default_factory=list)
    unlabeled_confidence: list[Tensor] = field(default_factory=list)
    pseudo_label_loss: list[Tensor] = field(default_factory=list)
    pseudo_label_confident: list[Tensor] = field(default_factory=list)

    def to_numbers(self, also: Sequence[Tensor] = ()) -> tuple[dict[str, float], list[float]]:
        """Return losses (sums over terms) and shares (means over terms), 0 where there was none, and further scalars.

        All are copied to the host at once: each copy would wait for the device.
        """
        sums = [_total(self.unlabeled_loss), _total(self.unlabeled_extra), _total(self.pseudo_label_loss)]
        means = [_mean(self.unlabeled_confidence), _mean(self.pseudo_label_confident)]
        values = [value for value in (*sums, *means, *also) if value is not None]
        numbers = iter(torch.stack([value.float() for value in values]).tolist() if values else [])
        names = (
            "unlabeled_loss",
            "unlabeled_extra",
            "pseudo_label_loss",
            "unlabeled_confidence",
            "pseudo_label_confident",
        )
        found = {
            name: 0.0 if value is None else next(numbers) for name, value in zip(names, (*sums, *means), strict=True)
        }
        return found, list(numbers)


@dataclass(frozen=True)
class TermWeights:
    """Weights of one step.

    Attributes:
        unlabeled: Of the unlabeled losses; 0 while the gate is closed.
        pseudo_label: Of the loss on stored pseudo-labels.
    """

    unlabeled: float
    pseudo_label: float


class UnlabeledPass:
    """Computes the losses on unlabeled patches, one by one.

    Args:
        method: What to learn.
        gate: Which classes are active.
        mixing: The boxes of CutMix.
        pseudo_labels: The pseudo-label term; ``None`` without generalists.

    Attributes:
        step: Steps taken; part of the checkpoint, since measurements are made every few steps.
    """

    def __init__(
        self,
        method: SSLMethod,
        gate: ClassGate,
        mixing: CutMixSettings | None = None,
        pseudo_labels: PseudoLabelTerm | None = None,
    ) -> None:
        self.method, self.gate, self.mixing, self.pseudo_labels = method, gate, mixing, pseudo_labels
        self.labels, self.settings = method.labels, method.settings
        self.step = 0
        self._last = (PassLog(), 0.0, 0.0)  # the numbers of the last step, on the device, and its weights

    def needs_unlabeled(self, progress: float) -> bool:
        """Return whether the next step reads an unlabeled batch.

        What the gate says before the step counts: one that opens in a step is used from the next one on. It is the same
        in all processes, and in a training that was interrupted and one that was not.

        Args:
            progress: Fraction of the training done, in [0, 1].
        """
        if self.method.always_reads_unlabeled or self.settings.histogram_matching_probability > 0:
            return True
        if self._pseudo_weight(progress) > 0:
            return True
        return self._weight(progress) > 0

    def losses(
        self,
        student: nn.Module,
        labeled: LabeledBatch,
        unlabeled: UnlabeledBatch | None,
        progress: float,
        drawn: LabeledBatch | None = None,
    ) -> Iterator[Tensor]:
        """Yield the weighted loss of each term, a scalar with a graph; none while there is nothing to learn.

        Call ``backward`` on each before asking for the next: the graph of one term is alive at a time. After the last,
        :meth:`read_log` returns the numbers of the step.

        Args:
            student: The network that is trained (wrapped by DDP or compiled as nnU-Net has it).
            labeled: The labeled batch of this step.
            unlabeled: The unlabeled batch of this step; ``None`` where :meth:`needs_unlabeled` said so.
            progress: Fraction of the training done, in [0, 1].
            drawn: The labeled batch before the method changed it, which alone tells Dice and areas; ``None``: the same.
        """
        due = self.step % self.gate.settings.measure_every == 0
        self.step += 1
        if due:
            self._measure(student, labeled if drawn is None else drawn)
        weight = self._weight(progress)
        active = unlabeled is not None and weight > 0
        pseudo_weight = self._pseudo_weight(progress)
        weights = TermWeights(weight if active else 0.0, pseudo_weight)
        log = PassLog()
        if active or (unlabeled is not None and unlabeled.pseudo is not None):
            terms = self.method.terms(student, labeled, unlabeled, progress)
            for index, term in enumerate(terms):
                if index == 0:
                    annotated = term.annotated if term.counted is None else None
                    self.gate.count_target(term.counted_target, unlabeled.num_random, annotated)
                compare = due and index == 0
                if not (self._learns(term, weights) or (active and compare)):
                    continue
                class_weights = self.gate.class_weights()
                term = self._mixed(self.gate.weighed_by_opinions(term, class_weights), labeled)
                loss = self._term_loss(term, student, weights, class_weights, log, compare)
                if loss is not None:
                    yield loss
                del loss  # the graph of this term ends before the next begins
        self._last = (log, weight, pseudo_weight)

    @property
    def log(self) -> dict[str, float]:
        """Return the numbers of the last step."""
        return self.read_log()[0]

    def read_log(self, *also: Tensor) -> tuple[dict[str, float], list[float]]:
        """Return the numbers of the last step, and the values of further scalars: one copy from the device for all."""
        log, weight, pseudo_weight = self._last
        values, others = log.to_numbers(also)
        return self._numbers(values, weight, pseudo_weight), others

    @staticmethod
    def _learns(term: UnlabeledTerm, weights: TermWeights) -> bool:
        """Return whether anything of a term is learned now."""
        own = weights.unlabeled > 0 and (term.weight > 0 or term.extra is not None)
        return own or (weights.pseudo_label > 0 and term.learned_pseudo is not None)

    def _pseudo_weight(self, progress: float) -> float:
        return 0.0 if self.pseudo_labels is None else self.pseudo_labels.weight(progress)

    def _weight(self, progress: float) -> float:
        """Return the weight of the unlabeled terms; 0 before their start and while the gate is closed."""
        settings, start = self.settings, self.settings.start
        is_open = self.gate.is_open(progress)  # also before the start: it keeps which classes were active once
        if progress < start or not is_open:
            return 0.0
        if settings.ramp_from == "gate":
            start = max(start, self.gate.opened_at)
        return settings.weight * rampup(progress, start, settings.rampup, settings.ramp_exponent)

    def _term_loss(
        self,
        term: UnlabeledTerm,
        student: nn.Module,
        weights: TermWeights,
        class_weights: Tensor,
        log: PassLog,
        compare: bool,
    ) -> Tensor | None:
        """Return the weighted loss of one term; ``None`` if nothing of it is learned.

        Args:
            term: What to learn, after any mixing.
            student: Learns if the term names no other learner.
            weights: Of this step.
            class_weights: From the gate, ``(K,)``.
            log: Receives the numbers of the term.
            compare: Whether the learner is compared with the target, for the estimated Dice.
        """
        seen = (term.images,) if term.companion is None else (term.images, term.companion)
        output = (term.learner or student)(*seen)
        logits = finest(output)
        if compare:
            self.gate.measure_agreement(logits, term.target, term.annotated)
        losses = [share * loss for share, loss in self._level_losses(term, output, weights, class_weights, log)]
        if weights.unlabeled > 0 and term.extra is not None:
            losses.append(weights.unlabeled * self._extra_loss(term, output, log))
        return sum(losses[1:], start=losses[0]) if losses else None

    def _level_losses(
        self,
        term: UnlabeledTerm,
        output: Tensor | list[Tensor],
        weights: TermWeights,
        class_weights: Tensor,
        log: PassLog,
    ) -> Iterator[tuple[float, Tensor]]:
        """Yield the weight of each level that is learned, and its loss; the log tells of the finest."""
        for level, (share, logits) in enumerate(self._levels(output)):
            here, note = term.at_shape(logits.shape[2:]), log if level == 0 else PassLog()
            if weights.unlabeled > 0 and here.weight > 0:
                yield share, weights.unlabeled * self._unlabeled_loss(here, logits, class_weights, note)
            if here.learned_pseudo is not None and weights.pseudo_label > 0:
                yield share, weights.pseudo_label * self._pseudo_label_loss(here, logits, class_weights, note)

    def _levels(self, output: Tensor | list[Tensor]) -> list[tuple[float, Tensor]]:
        """Return weight and logits of the levels that are learned, finest first."""
        if not self.settings.deep_supervision or isinstance(output, Tensor):
            return [(1.0, finest(output))]
        levels = zip(level_weights(len(output)), output, strict=True)
        return [(weight, logits) for weight, logits in levels if weight > 0]

    @torch.no_grad()
    def _measure(self, student: nn.Module, labeled: LabeledBatch) -> None:
        one_hot, valid = labeled.one_hot(self.labels)
        networks = self.method.measured_networks(student)
        found = [self.labels.hard(self.method.predict(network, labeled.data)) for network in networks]
        self.gate.measure_labeled(worst_prediction(found, one_hot, valid), one_hot, valid, labeled.num_random)

    def _mixed(self, term: UnlabeledTerm, labeled: LabeledBatch) -> UnlabeledTerm:
        """Return the term after CutMix with its neighbours in the batch, and with boxes of labeled patches."""
        if not term.mixable:
            return term
        shape, device = term.images.shape, term.images.device
        if len(term.images) > 1 and torch.rand(1).item() < self.settings.cutmix_probability:
            term = term.mixed(cutmix_mask(shape, device, self.mixing))
        if self.settings.labeled_mix_probability > 0:
            mask = labeled_mix_mask(shape, device, self.settings.labeled_mix_probability, self.mixing)
            term = term.with_labeled(*labeled.partners(len(term.images), self.labels), mask)
        return term

    def _unlabeled_loss(self, term: UnlabeledTerm, logits: Tensor, class_weights: Tensor, log: PassLog) -> Tensor:
        loss = UNLABELED_LOSSES.get(term.loss or self.settings.loss)
        gated = self.gate.apply(term, logits, class_weights)
        raw = loss(gated.logits, gated.target, gated.confidence, gated.class_weights, self.labels)
        log.unlabeled_loss.append(term.weight * raw.detach())
        log.unlabeled_confidence.append(gated.confidence.mean())
        return term.weight * raw

    def _extra_loss(self, term: UnlabeledTerm, output: Tensor | list[Tensor], log: PassLog) -> Tensor:
        raw = term.extra(output)
        log.unlabeled_extra.append(raw.detach())
        return raw

    def _pseudo_label_loss(self, term: UnlabeledTerm, logits: Tensor, class_weights: Tensor, log: PassLog) -> Tensor:
        raw = self.pseudo_labels.loss(self.gate.apply_to_pseudo_label(term.pseudo, logits, class_weights))
        log.pseudo_label_loss.append(raw.detach())
        log.pseudo_label_confident.append((term.pseudo.confidence > 0).float().mean())
        return raw

    def _numbers(self, values: Mapping[str, float], weight: float, pseudo_weight: float) -> dict[str, float]:
        """Return the log of the step: the same names for all methods, and at every step."""
        numbers = {
            "unlabeled_loss": values["unlabeled_loss"],
            "unlabeled_weight": weight,
            "unlabeled_weighted": weight * values["unlabeled_loss"],
            "unlabeled_extra": values["unlabeled_extra"],
            "unlabeled_confidence": values["unlabeled_confidence"],
        }
        if self.pseudo_labels is not None:
            numbers |= {
                "pseudo_label_loss": values["pseudo_label_loss"],
                "pseudo_label_weight": pseudo_weight,
                "pseudo_label_weighted": pseudo_weight * values["pseudo_label_loss"],
                "pseudo_label_confident": values["pseudo_label_confident"],
            }
        return numbers | self.gate.log()

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the number of steps."""
        self.step = state["step"]


def worst_prediction(predictions: Sequence[Tensor], reference: Tensor, valid: Tensor) -> Tensor:
    """Return, for each channel, the prediction of a batch with the lowest Dice, ``(B, K, *S)``.

    A network that lacks a class may be the better one in all others. No value is copied to the host.

    Args:
        predictions: Hard predictions, ``(B, K, *S)`` each.
        reference: Labels in the same form.
        valid: 0 on the ignore label, else 1, ``(B, 1, *S)``.
    """
    axes = [0, *range(2, reference.ndim)]

    def dice(prediction: Tensor) -> Tensor:
        overlap = 2 * (prediction * reference * valid).sum(axes, keepdim=True)
        size = ((prediction + reference) * valid).sum(axes, keepdim=True)
        return torch.where(size > 0, overlap / size.clamp(min=1), 1.0)

    worst, *others = predictions
    for other in others:
        worst = torch.where(dice(other) < dice(worst), other, worst)
    return worst


def _total(values: list[Tensor]) -> Tensor | None:
    return torch.stack([value.float() for value in values]).sum() if values else None


def _mean(values: list[Tensor]) -> Tensor | None:
    return torch.stack([value.float() for value in values]).mean() if values else None
