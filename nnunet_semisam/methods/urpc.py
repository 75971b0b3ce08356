"""Uncertainty-rectified pyramid consistency (URPC; Luo et al., MICCAI 2021, https://arxiv.org/abs/2012.07042)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_semisam.errors import UserError
from nnunet_semisam.labels import Labels
from nnunet_semisam.methods.base import Host, SSLMethod, register_method
from nnunet_semisam.methods.batches import LabeledBatch, UnlabeledBatch
from nnunet_semisam.methods.parts.deep_supervision import level_weights
from nnunet_semisam.methods.parts.networks import evaluating
from nnunet_semisam.methods.settings import MethodSettings, UntargetedSettings
from nnunet_semisam.methods.terms import UnlabeledTerm
from nnunet_semisam.settings import setting

TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class PyramidConsistencySettings(UntargetedSettings, MethodSettings):
    """The settings of URPC."""

    weight: float = setting(
        0.1, "Final weight of the unlabeled terms.", low=0, source="Luo et al. 2021, section 3: lambda = 0.1"
    )


@register_method("urpc")
class PyramidConsistency(SSLMethod):
    """The student's outputs at all levels of the decoder agree with their mean, where they do not differ too much.

    The levels are those of nnU-Net's deep supervision, without the coarsest one, which nnU-Net does not train. Costs
    one forward pass for the mean that the gate looks at, and a forward and backward pass.
    """

    Settings = PyramidConsistencySettings

    def setup(self, student: nn.Module, host: Host) -> None:
        """Refuse a network of too few levels before it is trained."""
        heads = getattr(getattr(student, "decoder", None), "seg_layers", None)  # of nnU-Net's decoders, one per level
        if heads is not None:
            check_levels(len(heads))

    def terms(
        self, student: nn.Module, labeled: LabeledBatch, unlabeled: UnlabeledBatch, progress: float
    ) -> Iterator[UnlabeledTerm]:
        """Yield one term: the consistency of the levels; the target is their mean, and only shows what is predicted."""
        with torch.no_grad(), evaluating(student):
            target = pyramid(student(unlabeled.weak), self.labels).mean(dim=0)
        nothing = torch.zeros_like(target[:, :1])
        yield UnlabeledTerm(
            unlabeled.strong,
            target,
            nothing,
            unlabeled.pseudo,
            extra=lambda output: rectified_consistency(pyramid(output, self.labels), self.labels),
        )


def pyramid(output: Tensor | list[Tensor], labels: Labels) -> Tensor:
    """Return the probabilities of all trained levels at full resolution, ``(levels, B, K, *S)``, finest first.

    Raises:
        UserError: If the network has one level only.
    """
    if isinstance(output, Tensor):
        output = [output]
    check_levels(len(output))
    weights = level_weights(len(output))
    size, mode = output[0].shape[2:], ("bilinear", "trilinear")[output[0].ndim - 4]
    trained = [logits for weight, logits in zip(weights, output, strict=True) if weight > 0]
    resized = [trained[0], *(F.interpolate(logits, size=size, mode=mode) for logits in trained[1:])]
    return torch.stack([labels.probabilities(logits) for logits in resized])


def check_levels(count: int) -> None:
    """Refuse a decoder of which fewer than two levels are trained.

    Raises:
        UserError: If that is so.
    """
    if sum(weight > 0 for weight in level_weights(count)) < 2:
        raise UserError(
            "urpc compares the outputs of the decoder's levels, and this network has one that is trained. Take a "
            "larger patch size or a trainer with deep supervision, or another method."
        )


def rectified_consistency(levels: Tensor, labels: Labels) -> Tensor:
    """Return the squared difference of levels and their mean, less where they diverge, plus the divergence; a scalar.

    Args:
        levels: ``(levels, B, K, *S)``, probabilities.
        labels: What the channels mean.

    Source:
        Luo et al. 2021, equations 3 to 5.
    """
    mean = levels.mean(dim=0, keepdim=True)
    divergence = _divergence(mean, levels)
    if labels.has_regions:
        divergence = divergence + _divergence(1 - mean, 1 - levels)
    divergence = divergence.sum(dim=2, keepdim=True)
    certainty = (-divergence).exp()
    axes = [1, 2, *range(3, levels.ndim)]
    error = ((levels - mean).square() * certainty).mean(dim=axes) / (certainty.mean(dim=axes) + TINY)
    return (error + divergence.mean(dim=axes)).mean()


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    return first * ((first + TINY).log() - (second + TINY).log())
