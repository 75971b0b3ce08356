"""Cross Pseudo Supervision (Chen et al., CVPR 2021, https://arxiv.org/abs/2106.01226)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nnunet_semisam.methods.base import Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.settings import MethodSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class CrossPseudoSupervisionSettings(MethodSettings):
    """The settings of Cross Pseudo Supervision."""

    loss: str = setting("cross_entropy", "Name of the loss on unlabeled images.", source="Chen et al. 2021, equation 2")


@register_method("cps")
class CrossPseudoSupervision(SSLMethod):
    """Two networks of different initial weights teach each other with hard labels.

    The second network is trained by its own optimiser on the same labeled patches. Each term costs one forward pass for
    the target and one forward and backward pass of the learner. Both networks are shipped by ``nnunet-semisam export``
    as two folds, which ``nnUNetv2_predict -f 0 1`` averages; validation and prompts use the first.
    """

    Settings = CrossPseudoSupervisionSettings
    ensemble_members = ("other",)
    always_reads_unlabeled = False

    def setup(self, student: nn.Module, host: Host) -> None:
        """Build the second network and its optimiser."""
        self.other = host.build_network(deep_supervision=True)
        self.optimizer = host.optimizer_for(self.other.parameters())
        self.supervised_loss = host.supervised_loss

    def owned_loss(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch | None, progress: float
    ) -> Tensor:
        """Return nnU-Net's loss of the second network."""
        return self.supervised_loss(self.other, labeled)

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield two terms: the second network's labels for the student, and the student's for the second network."""
        probs = self.predict(self.other, unlabeled.weak)
        yield UnlabeledTerm(unlabeled.strong, self.labels.hard(probs), self.confident(probs), unlabeled.pseudo)
        probs = self.predict(student, unlabeled.weak)
        yield UnlabeledTerm(
            unlabeled.strong,
            self.labels.hard(probs),
            self.confident(probs),
            unlabeled.pseudo,
            learner=self.other,
        )

    def measured_networks(self, student: nn.Module) -> tuple[nn.Module, ...]:
        """Return both: the second begins untrained, even where pretrained weights are loaded into the first."""
        return student, self.other

    def optimizers(self) -> list[Optimizer]:
        """Return the optimiser of the second network."""
        return [self.optimizer]

    def state_parts(self) -> dict[str, Any]:
        """Return the second network."""
        return {"other": self.other}
