"""What a semi-supervised method is: which terms the network shall learn from unlabeled images.

A method says *what* to learn (images, target, confidence). The driver (:mod:`nnunet_semisam.training.unlabeled_pass`)
does everything else: gate, mixing, forward pass, loss, pseudo-label term, log.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network (classes including the
background, or regions), ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.errors import UserError
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.parts.deep_supervision import nearest
from nnunet_semisam.methods.parts.losses import UNLABELED_LOSSES
from nnunet_semisam.methods.parts.mixing import mix
from nnunet_semisam.methods.parts.networks import evaluating, finest
from nnunet_semisam.registry import Registry
from nnunet_semisam.settings import SettingsBlock, setting, settings_block

# ---------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class PseudoLabel:
    """The stored pseudo-label of a batch of unlabeled patches.

    Attributes:
        target: One-hot classes or overlapping regions, ``(B, K, *S)``, float, 0 or 1.
        confidence: How likely each voxel's label is right, ``(B, 1, *S)``, in [0, 1]; 0 where there is no label.
    """

    target: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class UnlabeledBatch:
    """Patches without annotation. There is no target field, so a method cannot read one by accident.

    Attributes:
        weak: Patches with nnU-Net's spatial augmentation, ``(B, C, *S)``, for whoever makes the target.
        strong: The same patches with intensity augmentation on top, ``(B, C, *S)``: voxel ``i`` of ``strong`` and
            voxel ``i`` of ``weak`` show the same anatomy.
        pseudo: The stored pseudo-label, or ``None`` where there is none yet.
        strong2: A second strong view, for methods with ``strong_views = 2``; else ``None``.
        num_random: How many patches, the first of the batch, were drawn at random and not for their foreground;
            ``None``: all.
    """

    weak: Tensor
    strong: Tensor
    pseudo: PseudoLabel | None = None
    strong2: Tensor | None = None
    num_random: int | None = None


@dataclass(frozen=True)
class LabeledBatch:
    """Patches with annotation, as nnU-Net's loader gives them.

    Attributes:
        data: ``(B, C, *S)``.
        levels: What nnU-Net's loss takes: labels ``(B, 1, *S_level)`` per deep-supervision level, finest first (the
            ignore label, if there is one, is ``K``), or ``(B, K, *S_level)`` bool for regions, plus one channel for an
            ignore label. One entry without deep supervision.
        num_random: How many patches, the first of the batch, were drawn at random and not for their foreground.
    """

    data: Tensor
    levels: tuple[Tensor, ...]
    num_random: int

    @property
    def target(self) -> Tensor:
        """Return the finest level."""
        return self.levels[0]

    def one_hot(self, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return the annotation in the form of the network's output.

        Returns:
            One-hot classes or regions ``(B, K, *S)``, and 0 on the ignore label, else 1, ``(B, 1, *S)``; float32.
        """
        heads = labels.heads
        if labels.has_regions:
            valid = 1.0 - self.target[:, heads : heads + 1].float()
            if valid.shape[1] == 0:
                valid = torch.ones_like(self.target[:, :1], dtype=torch.float32)
            return self.target[:, :heads].float(), valid
        index = self.target.long()
        valid = (index < heads).float()
        classes = torch.zeros((index.shape[0], heads, *index.shape[2:]), device=index.device)
        return classes.scatter_(1, index.clamp(0, heads - 1), 1.0) * valid, valid

    def partners(self, count: int, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``count`` patches, each with its annotation as :meth:`one_hot` gives it; patches are used in turn."""
        chosen = torch.arange(count, device=self.data.device) % len(self.data)
        one_hot, valid = self.one_hot(labels)
        return self.data[chosen], one_hot[chosen], valid[chosen]


# ------------------------------------------------------------------------------------------------------------ terms

Forward = Callable[[Tensor], "Tensor | list[Tensor]"]


@dataclass(frozen=True)
class UnlabeledTerm:
    """One thing that a network shall learn from unlabeled (or mixed) images.

    Attributes:
        images: What the learner sees, ``(B, C, *S)``.
        target: Probabilities or one-hot, ``(B, K, *S)``. A constant: no gradient flows into it.
        confidence: ``(B, 1, *S)``, in [0, 1]; the gate multiplies its class weights.
        pseudo: The stored pseudo-label of the same voxels. At most one term of a step carries it.
        annotated: ``(B, 1, *S)``, bool: voxels whose target is an annotation, which needs no gate (mixing of labeled
            and unlabeled images); ``None``: none.
        learner: Who learns: a callable from images to logits; ``None``: the student.
        weight: Factor on the loss of this term.
        extra: A further loss on the learner's output as it returns it (a list over levels with deep supervision), for
            example an adversarial one. It is ramped like the other unlabeled losses.
        mixable: Whether the driver may apply CutMix to images, target, confidence and pseudo-label alike.
        loss: Name of the loss of this term; ``None``: that of the method's settings.
    """

    images: Tensor
    target: Tensor
    confidence: Tensor
    pseudo: PseudoLabel | None = None
    annotated: Tensor | None = None
    learner: Forward | None = None
    weight: float = 1.0
    extra: Callable[[Tensor | list[Tensor]], Tensor] | None = None
    mixable: bool = True
    loss: str | None = None

    def mixed(self, mask: Tensor) -> UnlabeledTerm:
        """Return the term with the boxes of ``mask`` ``(B, 1, *S)`` pasted from each image's neighbour in the batch."""
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = PseudoLabel(mix(pseudo.target, mask), mix(pseudo.confidence, mask))
        return replace(
            self,
            images=mix(self.images, mask),
            target=mix(self.target, mask),
            confidence=mix(self.confidence, mask),
            pseudo=pseudo,
            annotated=None if self.annotated is None else mix(self.annotated, mask),
        )

    def at_shape(self, shape: Sequence[int]) -> UnlabeledTerm:
        """Return the term for the output of a deep-supervision level ``*S``; images stay, the learner has seen them."""
        if self.target.shape[2:] == tuple(shape):
            return self
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = PseudoLabel(nearest(pseudo.target, shape), nearest(pseudo.confidence, shape))
        return replace(
            self,
            target=nearest(self.target, shape),
            confidence=nearest(self.confidence, shape),
            pseudo=pseudo,
            annotated=None if self.annotated is None else nearest(self.annotated, shape).bool(),
        )

    def with_labeled(self, images: Tensor, target: Tensor, valid: Tensor, mask: Tensor) -> UnlabeledTerm:
        """Return the term with voxels of labeled images pasted in; stored pseudo-labels there are put aside.

        Args:
            images: As many labeled patches as the term has images, ``(B, C, *S)``.
            target: Their annotation in the form of the network's output, ``(B, K, *S)``.
            valid: 0 on the ignore label, else 1, ``(B, 1, *S)``.
            mask: Where to paste, ``(B, 1, *S)``, bool.
        """
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = PseudoLabel(pseudo.target, pseudo.confidence.masked_fill(mask, 0.0))
        return replace(
            self,
            images=torch.where(mask, images, self.images),
            target=torch.where(mask, target, self.target),
            confidence=torch.where(mask, valid, self.confidence),
            pseudo=pseudo,
            annotated=mask if self.annotated is None else self.annotated | mask,
        )


# --------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True, kw_only=True)
class MethodSettings(SettingsBlock):
    """What every method that learns from unlabeled images has; a method's own block adds to it or changes defaults."""

    loss: str = setting("dice_ce", "Name of the loss on unlabeled images (`mse`, `cross_entropy`, `dice_ce`).")
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
        contrasts of the many unlabeled ones.""",
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


# ---------------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Host:
    """What a method may ask of the training around it.

    Attributes:
        labels: What the output channels mean.
        build_network: Returns a fresh network of the same plans on the same device, with other random weights; with
            ``deep_supervision=True`` it returns a list over levels as nnU-Net's loss wants it.
        supervised_loss: nnU-Net's loss of a network on a labeled batch, a scalar: ``(network, labeled)``.
        optimizer_for: Returns an optimiser of the student's kind and settings for other parameters. It takes part in
            clipping, decay of the learning rate, loss scaling and averaging over ranks.
        build_sam: Returns a SAM by the name of its model, with its weights: a
            :class:`~nnunet_semisam.sam.base.SAMBackend`, for methods that train one.
        steps: Optimiser steps of the whole training.
    """

    labels: Labels
    build_network: Callable[..., nn.Module]
    supervised_loss: Callable[[nn.Module, LabeledBatch], Tensor]
    optimizer_for: Callable[[Iterable[nn.Parameter]], Optimizer]
    build_sam: Callable[[str], Any]
    steps: int


class SSLMethod(ABC):
    """Turns unlabeled patches into terms. Owns whatever else it needs, for example a teacher.

    Args:
        settings: The method's block of settings.
        labels: What the output channels mean.

    Attributes:
        Settings: The class of the method's block of settings; register the method and its block are registered alike.
        strong_views: How many strong views of each patch the loader makes, 1 or 2.
        uses_unlabeled: Whether there are unlabeled terms at all.
        ensemble_members: Names of entries of :meth:`state_parts` that are networks to ship beside the inference
            network, averaged by ``nnUNetv2_predict -f 0 1``.

    Example:
        A complete method: the student's own hard labels on the weak view teach it on the strong view.

        >>> class PseudoLabelling(SSLMethod):
        ...     def terms(self, student, labeled, unlabeled, progress):
        ...         probs = self.predict(student, unlabeled.weak)
        ...         yield UnlabeledTerm(
        ...             unlabeled.strong, self.labels.hard(probs), self.confident(probs), unlabeled.pseudo
        ...         )
        >>> method = PseudoLabelling(MethodSettings(), Labels.of_classes(3))
        >>> patches = torch.zeros(2, 1, 8, 8)
        >>> (term,) = method.terms(nn.Conv2d(1, 3, 1), None, UnlabeledBatch(patches, patches), progress=0.5)
        >>> term.target.shape
        torch.Size([2, 3, 8, 8])
    """

    Settings: ClassVar[type[SettingsBlock]] = MethodSettings
    strong_views: ClassVar[int] = 1
    uses_unlabeled: ClassVar[bool] = True
    ensemble_members: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, labels: Labels) -> None:
        self.settings = settings
        self.labels = labels

    def setup(self, student: nn.Module, host: Host) -> None:  # noqa: B027
        """Build what the method owns. Called once, after nnU-Net built the student.

        Args:
            student: The unwrapped network that is trained (no DDP, not compiled).
            host: What the training offers.
        """

    def on_train_start(self, student: nn.Module) -> None:  # noqa: B027
        """Synchronise with a student whose weights came after :meth:`setup`. Not called when a run is resumed."""

    def augment_labeled(self, labeled: LabeledBatch, progress: float) -> LabeledBatch:
        """Return the labeled batch that is trained on; by default the one that nnU-Net's loader gave."""
        return labeled

    @property
    def always_reads_unlabeled(self) -> bool:
        """Return whether :meth:`owned_loss` reads the unlabeled batch: then every step has one.

        Other steps have one only while a term can be learned. A method whose own loss reads labeled patches alone says
        ``False``.
        """
        return type(self).owned_loss is not SSLMethod.owned_loss

    def owned_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: float
    ) -> Tensor | None:
        """Return the loss of networks that the method trains itself, by :meth:`optimizers`; ``None`` without any.

        Called in every step, whether or not the gate is open: a second network learns the labeled patches, a
        discriminator learns to tell predictions apart. What it computes with the student must be detached, or the
        student learns from it, too. ``unlabeled`` is ``None`` in steps without an unlabeled batch; see
        :attr:`always_reads_unlabeled`.
        """
        return None

    @abstractmethod
    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterable[UnlabeledTerm]:
        """Yield what shall be learned from this step's unlabeled patches.

        The driver computes and back-propagates one term before it asks for the next, so that the graph of one is alive.

        Args:
            student: The network that is trained; may return a list over deep-supervision levels, finest first.
            labeled: The labeled batch of this step, for methods that mix images.
            unlabeled: The unlabeled batch of this step.
            progress: Fraction of the training done, in [0, 1].
        """

    def after_step(self, student: nn.Module) -> None:  # noqa: B027
        """Follow the student. Called once after every optimiser step."""

    def prompting_network(self, student: nn.Module) -> nn.Module:
        """Return the network that the gate measures and that prompts generalists."""
        return student

    def inference_network(self, student: nn.Module) -> nn.Module:
        """Return the network that is validated and shipped."""
        return self.prompting_network(student)

    def optimizers(self) -> list[Optimizer]:
        """Return the optimisers of networks that the method trains by itself (discriminators, second networks)."""
        return []

    def state_parts(self) -> dict[str, Any]:
        """Return what a checkpoint needs by name: modules, or objects with ``state_dict`` and ``load_state_dict``."""
        return {}

    # ------------------------------------------------------------------------------------------ helpers for methods

    @torch.no_grad()
    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return a network's probabilities in eval mode, ``(B, K, *S)``, float32, without gradient."""
        with evaluating(network):
            return self.labels.probabilities(finest(network(images)))

    def confident(self, probs: Tensor) -> Tensor:
        """Return 1 where probabilities pass the ``confidence`` of the settings, else 0, ``(B, 1, *S)``, float."""
        return (self.labels.certainty(probs) >= self.settings.confidence).float()


METHODS: Registry[SSLMethod] = Registry("semi-supervised method")


def register_method(name: str) -> Callable[[type[SSLMethod]], type[SSLMethod]]:
    """Return a decorator that files a method, and its block of settings, under ``name``."""

    def add(cls: type[SSLMethod]) -> type[SSLMethod]:
        settings_block(name, used=lambda settings: settings.run.method == name)(cls.Settings)
        return METHODS.register(name)(cls)

    return add
