"""Ask a SAM about every component and collect its answers in one map per class.

Shapes in this file: ``F`` foreground classes or regions, ``N`` images (slices or volumes), ``*S`` the axes that the SAM
sees, ``M`` prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_semisam.prompts.components import Component
from nnunet_semisam.prompts.refinements import variants
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend

COLLAPSE_FACTOR = 4.0  # an answer that is this many times smaller or larger than what was asked about is no answer
COLLAPSE_MARGIN = 3  # voxels around a component without an answer that are as doubtful as the component itself


@dataclass(frozen=True)
class SAMOpinion:
    """What a SAM says about a case, per foreground channel; all arrays ``(N, F, *S)``.

    Attributes:
        probs: Probability of the class, float32, in [0, 1]; 0 where the SAM was not asked.
        reliability: How alike the answers to several readings of the prompt are, times the SAM's own estimate of its
            quality mapped to [0.5, 1]; float32, in [0, 1].
        asked: Where an answer counts: the windows of the components that got one.
        collapsed: Components (and 3 voxels around) whose answer was empty, or out of all proportion.
    """

    probs: np.ndarray
    reliability: np.ndarray
    asked: np.ndarray
    collapsed: np.ndarray

    @classmethod
    def silence(cls, shape: Sequence[int]) -> SAMOpinion:
        """Return the opinion of a SAM that was not asked anything."""
        return cls(
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=bool),
            np.zeros(shape, dtype=bool),
        )


@dataclass(frozen=True)
class AskCounts:
    """How many components of each foreground channel were asked about, and how it went; ``F`` numbers each."""

    prompts: tuple[int, ...]
    collapsed: tuple[int, ...]
    empty: tuple[int, ...]

    @classmethod
    def none(cls, channels: int) -> AskCounts:
        """Return the counts of a SAM that was not asked anything."""
        return cls(*((0,) * channels for _ in range(3)))

    def __add__(self, other: AskCounts) -> AskCounts:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return AskCounts(*(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in pairs))


def ask(
    backend: SAMBackend,
    embedding: Embedding,
    prompts: PromptBatch,
    components: Sequence[Component],
    channels: int,
    chunk: int,
) -> tuple[SAMOpinion, AskCounts]:
    """Decode all prompts, in three readings each, and merge the answers.

    Args:
        backend: The SAM.
        embedding: The encoded images of one case.
        prompts: ``M`` prompts.
        components: What each prompt asks about, in the same order.
        channels: ``F``.
        chunk: Most prompts to decode at once; bounds the memory.

    Returns:
        The opinion, and the counts behind it.

    Raises:
        ValueError: If prompts and components do not belong together.
    """
    if prompts.image.tolist() != [c.image for c in components]:
        raise ValueError(
            f"A prompt strategy must give one prompt per component, in their order: got {len(prompts)} prompts for "
            f"{len(components)} components. Build it upon prompts.components.find_components."
        )
    opinion = SAMOpinion.silence((len(embedding), channels, *embedding.image_shape))
    counts = np.zeros((3, channels), dtype=int)
    for component, probs, reliability in _answers(backend, embedding, prompts, components, chunk):
        area = int((probs > 0.5).sum())
        collapsed = not component.voxels / COLLAPSE_FACTOR <= area <= component.voxels * COLLAPSE_FACTOR
        counts[:, component.channel] += (1, collapsed, area == 0)
        _merge(opinion, component, None if collapsed else probs, reliability)
    return opinion, AskCounts(*(tuple(int(i) for i in row) for row in counts))


def _answers(
    backend: SAMBackend, embedding: Embedding, prompts: PromptBatch, components: Sequence[Component], chunk: int
) -> Iterator[tuple[Component, np.ndarray, np.ndarray]]:
    """Yield each component with its mean probability and its reliability, ``(*S)`` each."""
    for start in range(0, len(components), chunk):
        part = prompts.select(slice(start, start + chunk))
        images, part_image = part.image.unique(return_inverse=True)
        part = PromptBatch(**{**vars(part), "image": part_image})
        few = Embedding({name: f[images.to(f.device)] for name, f in embedding.features.items()}, embedding.image_shape)
        probs, reliability = _decode(backend, few, part)
        for m, component in enumerate(components[start : start + chunk]):
            yield component, probs[m].numpy(), reliability[m].numpy()


def _decode(backend: SAMBackend, embedding: Embedding, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
    """Return mean probability and reliability over the readings of each prompt, ``(M, *S)`` each, on the CPU.

    The variance of answers in [0, 1] is at most 1 / 4, so that ``1 - 4 * variance`` is in [0, 1].
    """
    readings = variants(prompts, embedding.image_shape)
    total = square = quality = 0.0
    for reading in readings:
        prediction = backend.decode(embedding, reading)
        # an answer that is no number is no answer: it counts as empty
        probs = torch.nan_to_num(prediction.logits.float(), nan=-100.0).sigmoid()
        total, square = total + probs, square + probs.square()
        quality = quality + torch.nan_to_num(prediction.quality.float(), nan=0.0).clamp(0, 1)
    mean = total / len(readings)
    alike = 1 - 4 * (square / len(readings) - mean.square()).clamp(0, 0.25)
    own = (1 + quality / len(readings)) / 2
    return mean.cpu(), (alike * own.reshape(-1, *[1] * (mean.ndim - 1))).cpu()


def _merge(opinion: SAMOpinion, component: Component, probs: np.ndarray | None, reliability: np.ndarray) -> None:
    """Write one answer (``None``: collapsed) into the component's window; where answers overlap the surer one wins."""
    place = (component.image, component.channel, *component.window)
    if probs is None:
        opinion.collapsed[place] |= ndimage.binary_dilation(component.inside, iterations=COLLAPSE_MARGIN)
        return
    better = ~opinion.asked[place] | (probs[component.window] > opinion.probs[place])
    opinion.probs[place] = np.where(better, probs[component.window], opinion.probs[place])
    opinion.reliability[place] = np.where(better, reliability[component.window], opinion.reliability[place])
    opinion.asked[place] = True
