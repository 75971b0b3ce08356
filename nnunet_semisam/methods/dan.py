"""Deep Adversarial Network (DAN; Zhang et al., MICCAI 2017, https://doi.org/10.1007/978-3-319-66179-7_47)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from nnunet_semisam.methods.base import Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.discriminator import Discriminator
from nnunet_semisam.methods.parts.networks import finest
from nnunet_semisam.methods.settings import UnmixedSettings, UntargetedSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(UntargetedSettings, UnmixedSettings):
    """The settings of the Deep Adversarial Network."""

    weight: float = setting(0.1, "Final weight of the unlabeled terms.", low=0, source="SSL4MIS: consistency 0.1")
    discriminator_lr: float = setting(
        1e-4, "Learning rate of the discriminator (Adam), in the beginning.", above=0, source="SSL4MIS and SemiSAM+"
    )


@register_method("dan")
class DeepAdversarialNetwork(SSLMethod):
    """Segmentations of unlabeled patches shall look, to a discriminator, like those of labeled ones.

    The discriminator sees segmentation and image and learns in every step. Both sides are patches with intensity
    augmentation that were drawn at random: of patches centred on foreground it would learn that much foreground is a
    sign of a label.

    Costs two forward passes of the student for the discriminator, one for the gate, and a forward and backward pass of
    the adversarial loss.
    """

    Settings = AdversarialSettings

    def setup(self, student: nn.Module, host: Host) -> None:
        """Build the discriminator and its optimiser."""
        self.discriminator = Discriminator(self.labels.heads + host.image_channels, host.spatial_dims)
        self.discriminator.to(next(student.parameters()).device)
        self.optimizer = Adam(self.discriminator.parameters(), lr=self.settings.discriminator_lr, betas=(0.9, 0.99))

    def owned_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: float
    ) -> Tensor:
        """Return the discriminator's loss: labeled patches are 1, unlabeled ones 0."""
        drawn = (labeled.data[: max(1, labeled.num_random)], unlabeled.strong[: _num_random(unlabeled)])
        logits = [self.discriminator(self.predict(student, images), images) for images in drawn]
        sides = zip(logits, (torch.ones_like, torch.zeros_like), strict=True)
        return sum(F.binary_cross_entropy_with_logits(logit, side(logit)) for logit, side in sides) / 2

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the adversarial loss; the target only shows the gate what the student predicts."""
        images, target = unlabeled.strong, self.predict(student, unlabeled.weak)
        nothing = torch.zeros_like(target[:, :1])
        yield UnlabeledTerm(
            images, target, nothing, unlabeled.pseudo, extra=lambda output: self._deceive(output, images), mixable=False
        )

    def _deceive(self, output: Tensor | list[Tensor], images: Tensor) -> Tensor:
        """Return how far the student is from passing as one on labeled patches; the discriminator does not learn."""
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        probs = self.labels.probabilities(finest(output))
        logits = torch.func.functional_call(self.discriminator, frozen, (probs, images))
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def optimizers(self) -> list[Optimizer]:
        """Return the optimiser of the discriminator."""
        return [self.optimizer]

    def state_parts(self) -> dict[str, Any]:
        """Return the discriminator."""
        return {"discriminator": self.discriminator}


def _num_random(unlabeled: UnlabeledBatch) -> int:
    """Return how many patches, the first of the batch, were drawn at random; at least one."""
    return len(unlabeled.strong) if unlabeled.num_random is None else max(1, unlabeled.num_random)
