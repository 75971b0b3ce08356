"""What a method returns: terms, each of which is one thing that a network shall learn from unlabeled images.

Shapes in this file: ``B`` batch, ``C`` image channels, ``K`` output channels of the network (classes including the
background, or regions), ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunet_semisam.methods.batches import PseudoLabel
from nnunet_semisam.methods.parts.deep_supervision import nearest
from nnunet_semisam.methods.parts.mixing import mix

Forward = Callable[..., "Tensor | list[Tensor]"]


@dataclass(frozen=True)
class UnlabeledTerm:
    """One thing that a network shall learn from unlabeled (or mixed) images.

    Attributes:
        images: What the learner sees, ``(B, C, *S)``.
        target: Probabilities or one-hot, ``(B, K, *S)``. A constant: no gradient flows into it.
        confidence: ``(B, 1, *S)``, in [0, 1]; the gate multiplies its class weights.
        pseudo: The stored pseudo-label of the same voxels: where it is confident and contradicts the target, the target
            is not learned.
        learn_pseudo: Whether the pseudo-label is learned, too; of each voxel and learner by one term of a step at most.
        annotated: ``(B, 1, *S)``, bool: voxels whose target is an annotation, which needs no gate (mixing of labeled
            and unlabeled images); ``None``: none.
        learner: Who learns: a callable from images (and ``companion``, if there is one) to logits; ``None``: the
            student. One that is no module holds those that it trains as attributes.
        weight: Factor on the loss of this term.
        extra: A further loss on the learner's output as it returns it (a list over levels with deep supervision), for
            example an adversarial one. It is ramped like the other unlabeled losses.
        mixable: Whether the driver may apply CutMix to images, target, confidence and pseudo-label alike.
        loss: Name of the loss of this term; ``None``: that of the method's settings.
        companion: A further image of the same voxels that the learner looks at, ``(B, C, *S)``, mixed as ``images``
            are; ``None``: none.
        counted: What is counted as the area of each class on unlabeled patches, ``(B, K, *S)``, where the target mixes
            several patches; ``None``: the target.
        opinions: How alike several opinions on the target are, for each patch and channel that is no background,
            ``(B, F)``, in [0, 1]. All voxels of a patch are weighed by the lowest of its active classes.
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
    companion: Tensor | None = None
    counted: Tensor | None = None
    opinions: Tensor | None = None
    learn_pseudo: bool = True

    @property
    def learned_pseudo(self) -> PseudoLabel | None:
        """Return the stored pseudo-label that this term learns; ``None`` if there is none."""
        return self.pseudo if self.learn_pseudo else None

    @property
    def counted_target(self) -> Tensor:
        """Return what is counted as the area of each class, ``(B, K, *S)``."""
        return self.target if self.counted is None else self.counted

    def mixed(self, mask: Tensor) -> UnlabeledTerm:
        """Return the term with the boxes of ``mask`` ``(B, 1, *S)`` pasted from each image's neighbour in the batch."""
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = pseudo.changed(lambda values: mix(values, mask))
        return replace(
            self,
            images=mix(self.images, mask),
            target=mix(self.target, mask),
            confidence=mix(self.confidence, mask),
            pseudo=pseudo,
            annotated=None if self.annotated is None else mix(self.annotated, mask),
            companion=None if self.companion is None else mix(self.companion, mask),
        )

    def at_shape(self, shape: Sequence[int]) -> UnlabeledTerm:
        """Return the term for the output of a deep-supervision level ``*S``; images stay, the learner has seen them."""
        if self.target.shape[2:] == tuple(shape):
            return self
        pseudo = self.pseudo
        if pseudo is not None:
            pseudo = pseudo.changed(lambda values: nearest(values, shape))
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
            pseudo = replace(pseudo, confidence=pseudo.confidence.masked_fill(mask, 0.0))
        return replace(
            self,
            images=torch.where(mask, images, self.images),
            target=torch.where(mask, target, self.target),
            confidence=torch.where(mask, valid, self.confidence),
            pseudo=pseudo,
            annotated=mask if self.annotated is None else self.annotated | mask,
            companion=None if self.companion is None else torch.where(mask, images, self.companion),
        )
