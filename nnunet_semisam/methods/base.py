"""What a semi-supervised method is: which terms the network shall learn from unlabeled images.

A method says *what* to learn (images, target, confidence). The driver (:mod:`nnunet_semisam.training.unlabeled_pass`)
does everything else: gate, mixing, forward pass, loss, pseudo-label term, log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.networks import evaluating, finest
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.registry import Registry
from nnunet_semisam.settings import SettingsBlock, settings_block


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
            :class:`~nnunet_semisam.sam.base.SAMBackend`, for methods that train one. Its model must be named by the
            setting that ``trained_sam`` of the method's settings points to.
        steps: Optimiser steps of the whole training.
        image_channels: ``C``, channels of the images.
        spatial_dims: Axes of a patch, 2 or 3.
    """

    labels: Labels
    build_network: Callable[..., nn.Module]
    supervised_loss: Callable[[nn.Module, LabeledBatch], Tensor]
    optimizer_for: Callable[[Iterable[nn.Parameter]], Optimizer]
    build_sam: Callable[[str], Any]
    steps: int
    image_channels: int
    spatial_dims: int


class SSLMethod(ABC):
    """Turns unlabeled patches into terms. Owns whatever else it needs, for example a teacher.

    Args:
        settings: The method's block of settings.
        labels: What the output channels mean.

    Attributes:
        Settings: The class of the method's block of settings, which :func:`register_method` registers under its name.
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

    def measured_networks(self, student: nn.Module) -> tuple[nn.Module, ...]:
        """Return the networks that teach: where there are several, the gate goes by the worst."""
        return (self.prompting_network(student),)

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
