"""Which classes may be used in unlabeled terms, and how much: measured, never assumed from a step count.

A network that has not learned a class predicts background there, and a student that learns from it unlearns the class:
a naive Mean Teacher can end below plain nnU-Net. So a class is active only when the prompting network finds it on
labeled training patches, and its share of the unlabeled patches is bounded by what labeled patches show.

Shapes in this file: ``B`` batch, ``K`` output channels, ``*S`` spatial axes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunet_semisam import ranks
from nnunet_semisam.gate.area_prior import LABELED, UNLABELED, AreaPrior
from nnunet_semisam.gate.merging import active_weights, merge_inactive
from nnunet_semisam.gate.running_dice import RunningDice
from nnunet_semisam.gate.settings import GateSettings
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.batches import PseudoLabel
from nnunet_semisam.methods.parts.transfer import to_device
from nnunet_semisam.methods.terms import UnlabeledTerm


@dataclass(frozen=True)
class GatedTarget:
    """What the loss takes, after the gate.

    Attributes:
        logits: ``(B, K, *S)``; inactive classes merged into channel 0.
        target: ``(B, K, *S)``, in the same form.
        confidence: ``(B, 1, *S)``, in [0, 1], class weights included.
        class_weights: ``(K,)``, in [0, 1]; of regions, which share voxels, and ``(B, K, *S)`` where some voxels are
            annotated. Else 1: they are part of the confidence.
    """

    logits: Tensor
    target: Tensor
    confidence: Tensor
    class_weights: Tensor


class ClassGate:
    """Measures the prompting network, and weighs the classes of every unlabeled term.

    Args:
        settings: The block ``gate``.
        labels: What the output channels mean.

    Attributes:
        found: Channels that were active once.
        measurements: How often the prompting network was measured on labeled patches.
        started: Whether all classes were active once, or nothing waits for that (any longer).
        opened_at: Progress at which the gate opened first, in [0, 1]; ``None`` before.
        left_out: Channels that nothing waits for; see :meth:`leave_out`.

    Example:
        >>> gate = ClassGate(GateSettings(start="any"), Labels.of_classes(2))
        >>> gate.is_open()
        False
        >>> label = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]).transpose(0, 1)  # (B, K, X): foreground, background
        >>> gate.labeled_dice.measure(label, label)
        >>> gate.is_open(), gate.class_weights().tolist()
        (True, [1.0, 1.0])
    """

    def __init__(self, settings: GateSettings, labels: Labels) -> None:
        self.settings, self.labels = settings, labels
        self.labeled_dice = RunningDice(labels.heads, settings.memory)
        self.agreement = RunningDice(labels.heads, settings.memory)
        self.agreement_level = torch.zeros(labels.heads, dtype=torch.float64)
        self.area = AreaPrior(labels, settings.area_factor, settings.area_memory)
        self.started = settings.start == "any"
        self.found: frozenset[int] = frozenset()
        self.measurements = 0
        self.opened_at: float | None = None
        self.left_out: frozenset[int] = frozenset()

    def leave_out(self, channels: Collection[int]) -> None:
        """Wait for these channels no longer: no labeled case shows them, so their Dice can never be measured."""
        self.left_out = self.area.left_out = frozenset(channels)

    @property
    def is_patient(self) -> bool:
        """Whether the gate still waits for classes that were not active yet."""
        return self.measurements * self.settings.measure_every < self.settings.patience

    def waited_for(self) -> list[int]:
        """Return the foreground channels that some labeled case shows."""
        return [k for k in range(self.labels.first_foreground, self.labels.heads) if k not in self.left_out]

    # ---------------------------------------------------------------------------------------------- measurements

    def measure_labeled(self, prediction: Tensor, one_hot: Tensor, valid: Tensor, num_random: int) -> None:
        """Measure the prompting network on a labeled batch.

        Args:
            prediction: Its hard prediction, ``(B, K, *S)``.
            one_hot: The labels in the same form.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``.
            num_random: How many patches, the first of the batch, were drawn at random: only these count for areas.
        """
        self.labeled_dice.measure(prediction, one_hot, valid)
        self.measurements += 1
        random = _random_patches(num_random)
        self.area.count(LABELED, one_hot[random], valid[random])

    def count_target(self, target: Tensor, num_random: int | None, annotated: Tensor | None = None) -> None:
        """Count the areas of a target on unlabeled patches.

        Args:
            target: ``(B, K, *S)``.
            num_random: How many patches, the first of the batch, were drawn at random: only these count; ``None``: all.
            annotated: Voxels of a labeled image, which tell nothing of unlabeled ones, ``(B, 1, *S)``, bool.
        """
        random = _random_patches(len(target) if num_random is None else num_random)
        valid = None if annotated is None else (~annotated[random]).float()
        self.area.count(UNLABELED, self.labels.hard(target[random]), valid)

    def measure_agreement(self, logits: Tensor, target: Tensor, annotated: Tensor | None = None) -> None:
        """Compare the student's logits on unlabeled patches with their target, ``(B, K, *S)`` each.

        Where a voxel is ``annotated`` (``(B, 1, *S)``, bool) the target is a label, and nothing is compared.
        """
        student = self.labels.hard(self.labels.probabilities(logits.detach()))
        valid = None if annotated is None else (~annotated).float()
        self.agreement.measure(student, self.labels.hard(target.float()), valid)
        now, memory = self.agreement.dice(), self.settings.agreement_memory
        level = memory * self.agreement_level + (1 - memory) * now
        self.agreement_level = torch.where(self.agreement_level > 0, level, now)

    # -------------------------------------------------------------------------------------------------- decisions

    def dice_weights(self) -> Tensor:
        """Return the weight of each channel by its Dice on labeled patches, ``(K,)``; the background waits for all."""
        if self.settings.dice == 0:
            return torch.ones(self.labels.heads, dtype=torch.float32)
        weights = ((self.labeled_dice.dice() - self.settings.dice) / self.settings.width).clamp(0, 1).float()
        if not self.labels.has_regions:
            weights[0] = weights[self.waited_for()].min()
        return weights

    def agreement_weights(self) -> Tensor:
        """Return how far student and target agree as they used to, ``(K,)``; 1 before anything was compared."""
        level = self.agreement_level
        return torch.where(level > 0, self.agreement.dice() / level.clamp(min=1e-9), 1.0).clamp(max=1).float()

    def class_weights(self) -> Tensor:
        """Return the weight of each channel, ``(K,)``, float32 in [0, 1], on the CPU: Dice, area prior, agreement."""
        return self.dice_weights() * self.area.class_weights() * self.agreement_weights()

    def is_open(self, progress: float = 0.0) -> bool:
        """Return whether unlabeled terms are used: the start was reached, and some class is active.

        Args:
            progress: Fraction of the training done, in [0, 1]; the first time is kept as :attr:`opened_at`.
        """
        weights = self.dice_weights()
        active = (weights >= self.settings.active_from).nonzero().flatten().tolist()
        self.found |= frozenset(active)
        self.started = self.started or not self.is_patient or self.found.issuperset(self.waited_for())
        open_now = self.started and bool(weights.max() >= self.settings.active_from)
        if open_now and self.opened_at is None:
            self.opened_at = progress
        return open_now

    def estimated_dice(self) -> float:
        """Return an estimate of the mean foreground Dice on unseen cases, in [0, 1], without their labels.

        Two views of one case disagree where a network is unsure of new cases. Before anything was compared, the Dice on
        labeled patches, which is too optimistic, stands in.
        """
        measured = self.agreement if self.agreement.measured else self.labeled_dice
        return float(measured.dice()[self.waited_for()].mean())

    def apply(self, term: UnlabeledTerm, logits: Tensor, class_weights: Tensor) -> GatedTarget:
        """Return what the loss takes of a term's own target.

        Where a confident stored pseudo-label has another class than the target, the target is not learned: the
        pseudo-label has seen the whole case, and a generalist. An older one takes less from the target.

        Args:
            term: The term, after any mixing.
            logits: The learner's logits on ``term.images``, ``(B, K, *S)``.
            class_weights: From :meth:`class_weights`, on the CPU.
        """
        gated = self._merged_and_weighed(logits, term.target, term.confidence, class_weights)
        confidence = gated.confidence
        if term.pseudo is not None:
            contradicted = self._contradicted(gated.target, term.pseudo, class_weights)
            confidence = term.pseudo.left_of(confidence, contradicted)
        if term.annotated is None:
            return replace(gated, confidence=confidence)
        return GatedTarget(  # a label needs no gate, and names its class
            torch.where(term.annotated, logits, gated.logits),
            torch.where(term.annotated, term.target, gated.target),
            torch.where(term.annotated, term.confidence, confidence),
            self._but_annotated(gated.class_weights, term.annotated),
        )

    def weighed_by_opinions(self, term: UnlabeledTerm, class_weights: Tensor) -> UnlabeledTerm:
        """Return the term with its opinions in the confidence of whole patches; call it before any mixing.

        Inactive classes are background for the student, so that it does not matter how their opinions differ. Regions
        are not merged: those with any weight are learned, and count.

        Args:
            term: The term as the method yields it.
            class_weights: From :meth:`class_weights`, on the CPU.
        """
        if term.opinions is None:
            return term
        learned = class_weights > 0 if self.labels.has_regions else class_weights >= self.settings.active_from
        active = learned[self.labels.first_foreground :]
        channels = active.nonzero().flatten().tolist()
        if not channels:
            return replace(term, opinions=None)  # nothing is learned
        lowest = _channels(term.opinions, channels).amin(dim=1)
        lowest = lowest.view(-1, 1, *[1] * (term.confidence.ndim - 2))
        return replace(term, confidence=term.confidence * lowest, opinions=None)

    def apply_to_pseudo_label(self, pseudo: PseudoLabel, logits: Tensor, class_weights: Tensor) -> GatedTarget:
        """Return what the loss takes of a stored pseudo-label; a network changes faster than labels are made.

        Args:
            pseudo: The pseudo-label, after any mixing.
            logits: The learner's logits on the same voxels, ``(B, K, *S)``.
            class_weights: From :meth:`class_weights`, on the CPU.
        """
        return self._merged_and_weighed(logits, pseudo.target, pseudo.weighted_confidence, class_weights)

    def _merged_and_weighed(
        self, logits: Tensor, target: Tensor, confidence: Tensor, class_weights: Tensor
    ) -> GatedTarget:
        """Merge inactive classes into the background, and weigh all voxels by the least certain of the active ones.

        One weight for all: a background that counts less than a class lets that class grow, since too many of its
        voxels cost less than too few.
        """
        if self.labels.has_regions:  # each region has a background of its own
            return GatedTarget(logits, target, confidence, to_device(class_weights, logits.device))
        active = active_weights(class_weights, self.settings.active_from)
        logits, target = merge_inactive(logits, target, active)
        ones = torch.ones_like(class_weights, device=logits.device)  # the weight is in the confidence
        return GatedTarget(logits, target, confidence * float(active[0]), ones)

    def _but_annotated(self, class_weights: Tensor, annotated: Tensor) -> Tensor:
        """Return weights that are 1 where a voxel is annotated, ``(B, K, *S)``; of classes they are 1 everywhere."""
        if not self.labels.has_regions:
            return class_weights
        return torch.where(annotated, 1.0, class_weights.view(1, -1, *[1] * (annotated.ndim - 2)))

    def _contradicted(self, merged: Tensor, pseudo: PseudoLabel, class_weights: Tensor) -> Tensor:
        """Return where a confident pseudo-label has another class than the target, ``(B, 1, *S)``, bool.

        Inactive classes are background on both sides, and regions without weight are not learned: they contradict
        nothing.

        Args:
            merged: The target with inactive classes in channel 0, ``(B, K, *S)``.
            pseudo: The pseudo-label of the same voxels.
            class_weights: From :meth:`class_weights`, on the CPU.
        """
        if self.labels.has_regions:
            learned = (class_weights > 0).nonzero().flatten().tolist()
            if not learned:
                return torch.zeros_like(pseudo.confidence, dtype=torch.bool)
            differs = _channels(self.labels.hard(merged), learned) != _channels(pseudo.target, learned)
            return differs.any(dim=1, keepdim=True) & (pseudo.confidence > 0)
        active = active_weights(class_weights, self.settings.active_from) > 0
        names = to_device(torch.where(active, torch.arange(len(active)), 0), merged.device)
        theirs = names[pseudo.target.max(dim=1, keepdim=True).indices]
        return (merged.max(dim=1, keepdim=True).indices != theirs) & (pseudo.confidence > 0)

    # ------------------------------------------------------------------------------------------------ state and log

    def log(self) -> dict[str, float]:
        """Return the numbers worth a line in the training log."""
        dice = {f"labeled_dice_{k}": float(value) for k, value in enumerate(self.labeled_dice.dice())}
        weights = {f"class_weight_{k}": float(value) for k, value in enumerate(self.class_weights())}
        return {"estimated_dice": self.estimated_dice(), **dice, **weights}

    def state_dict(self) -> dict:
        """Return all that was measured."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "started": self.started,
            "opened_at": self.opened_at,
            "found": sorted(self.found),
            "measurements": self.measurements,
            "agreement_level": self.agreement_level,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore all that was measured."""
        self.started, self.opened_at = state["started"], state["opened_at"]
        self.found, self.measurements = frozenset(state["found"]), state["measurements"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        if state["agreement_level"].shape != self.agreement_level.shape:
            raise ValueError(f"The agreement is of {len(state['agreement_level'])} channels, not {self.labels.heads}.")
        self.agreement_level = state["agreement_level"].cpu()

    def _parts(self) -> dict[str, RunningDice | AreaPrior]:
        return {"labeled_dice": self.labeled_dice, "agreement": self.agreement, "area": self.area}


def _channels(values: Tensor, channels: list[int]) -> Tensor:
    """Return some channels of ``(B, K, ...)``; an index would be copied to the device, which waits for it."""
    parts = values.unbind(dim=1)
    return torch.stack([parts[k] for k in channels], dim=1)


def _random_patches(num_random: int) -> slice:
    """Return which patches of a batch tell areas; one at least, but under DDP other ranks have random ones."""
    return slice(0, num_random if ranks.several() else max(1, num_random))
