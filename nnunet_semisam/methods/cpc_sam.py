"""CPC-SAM: cross prompting consistency (Miao et al., MICCAI 2024, https://arxiv.org/abs/2407.05416)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nnunet_semisam.methods.base import Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.cross_prompts import central_and_random_points
from nnunet_semisam.methods.parts.losses import dice_and_cross_entropy
from nnunet_semisam.methods.parts.slices import SliceNetwork, slices_of
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting

CODE = "published code"
PHASES = "published code: 5,000 steps of unprompted training"


@dataclass(frozen=True, kw_only=True)
class CPCSAMSettings(MethodSettings):
    """The settings of CPC-SAM."""

    trained_sam: ClassVar[str | None] = "model"
    model: str = setting("nano", "Name of the SAM that is trained: nano, vit_b, vit_l or vit_h.")
    train_encoder: bool = setting(True, "Whether the SAM's image encoder learns, too.", source="ours; theirs: LoRA")
    sam_lr: float = setting(1e-4, "First learning rate of the SAM (AdamW).", above=0, source="ours; theirs, LoRA: 1e-3")
    cross_start: float = setting(
        0.2, "Fraction of the training after which the decoders prompt each other.", low=0, high=1, source=PHASES
    )
    cross_weight: float = setting(0.4, "Weight of a decoder's error on the other's prompted masks.", low=0, source=CODE)
    prompt_weight: float = setting(0.05, "Weight of the agreement of two prompts.", low=0, source=CODE)
    channel: int = setting(0, "Image channel that the SAM sees.", low=0)
    slices_per_step: int = setting(4, "Slices of labeled, and of unlabeled patches, that the SAM learns a step.", low=1)


@register_method("cpc_sam")
class CPCSAM(SSLMethod):
    """Two decoders of one SAM prompt each other; what both predict without prompts teaches nnU-Net's network.

    Deviations: a SAM cannot be shipped as an nnU-Net model, so it is trained beside the network and is its teacher; the
    encoder is trained as a whole instead of through low-rank adapters; the three losses of a step are one.
    """

    Settings = CPCSAMSettings

    def setup(self, student: nn.Module, host: Host) -> None:
        """Load the SAM and give it two decoders."""
        settings = self.settings
        decoders = host.build_sam(settings.model).class_decoders(self.labels.channels, 2, settings.train_encoder)
        self.sam = SliceNetwork(decoders, self.labels, settings.channel)
        trained = [parameter for parameter in decoders.parameters() if parameter.requires_grad]
        self.optimizer = AdamW(trained, lr=settings.sam_lr, weight_decay=0.1)

    def owned_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: float
    ) -> Tensor:
        """Return the SAM's loss: labels without prompts, and later with prompts of the other decoder, and agreement."""
        target, valid = labeled.one_hot(self.labels)
        images, target, valid = slices_of(self.settings.slices_per_step, labeled.data, target, valid)
        count = len(images)
        if progress >= self.settings.cross_start:
            images = torch.cat([images, *slices_of(self.settings.slices_per_step, unlabeled.weak)])
        features, shape = self.sam.decoders.encode(self.sam.seen(images)), images.shape[2:]
        alone = [self._logits(decoder, features, shape) for decoder in (0, 1)]
        loss = sum(self._error(logits[:count], target, valid) for logits in alone)
        if len(images) > count:
            for decoder in (0, 1):
                loss = loss + self._cross_loss(decoder, alone[decoder], features, target, valid)
        return loss

    def _cross_loss(self, decoder: int, alone: Tensor, features: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of one decoder's prediction and of the other one, prompted with points of it."""
        settings, count, shape = self.settings, len(target), alone.shape[2:]
        predicted = self.labels.hard(self.labels.probabilities(alone.detach()))[:, self.labels.first_foreground :]
        prompts = central_and_random_points(predicted > 0)
        prompted = [self._logits(1 - decoder, features, shape, points) for points in prompts]
        mean = sum(self.labels.probabilities(logits.detach()) for logits in prompted) / 2
        pseudo, everywhere = self.labels.hard(mean)[count:], torch.ones_like(mean[count:, :1])
        labels_loss = sum(self._error(logits[:count], target, valid) for logits in prompted)
        cross = self._error(alone[count:], pseudo, everywhere)
        agreement = self._error(prompted[1][count:], pseudo, everywhere)
        return labels_loss + settings.cross_weight * cross + settings.prompt_weight * agreement

    def _logits(self, decoder: int, features: Tensor, shape: torch.Size, points: Any = None) -> Tensor:
        return self.sam.with_background(self.sam.decoders.decode(decoder, features, tuple(shape), points))

    def _error(self, logits: Tensor, target: Tensor, confidence: Tensor) -> Tensor:
        weights = torch.ones(logits.shape[1], device=logits.device)
        return dice_and_cross_entropy(logits, target, confidence, weights, self.labels)

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: what the SAM predicts without prompts."""
        target = self.predict(self.sam, unlabeled.weak)
        yield UnlabeledTerm(unlabeled.strong, target, self.confident(target), unlabeled.pseudo)

    def prompting_network(self, student: nn.Module) -> nn.Module:
        """Return the SAM, which makes the targets and is therefore what the gate has to measure."""
        return self.sam

    def inference_network(self, student: nn.Module) -> nn.Module:
        """Return the student: the SAM is no nnU-Net model."""
        return student

    def optimizers(self) -> list[Optimizer]:
        """Return the optimiser of the SAM."""
        return [self.optimizer]

    def state_parts(self) -> dict[str, Any]:
        """Return the SAM."""
        return {"sam": self.sam}
