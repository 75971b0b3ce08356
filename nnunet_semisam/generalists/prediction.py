"""Decode the prompts of all components and collect the masks in one map per class.

Shapes in this file: ``F`` foreground classes or regions, ``N`` images (slices or volumes), ``*S`` the axes that the SAM
sees, ``M`` prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_semisam.generalists.base import CasePrediction, PromptCounts
from nnunet_semisam.prompts.base import PromptRefinement, PromptStrategy
from nnunet_semisam.prompts.components import Component
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend
from nnunet_semisam.settings import SettingsBlock, setting, settings_block

NO_NUMBER = -100.0  # the logit that replaces one that is no number: it counts as outside


@settings_block("rejection", used=lambda settings: settings.run.use_sam)
@dataclass(frozen=True, kw_only=True)
class RejectionSettings(SettingsBlock):
    """Which masks of a generalist are rejected."""

    factor: float = setting(
        4.0, "A mask that is this many times smaller or larger than the prompted component is rejected.", above=1
    )
    margin: int = setting(
        3, "Voxels around a component with a rejected mask that count as rejected, too.", low=0, high=1000
    )
    rectify_below: float = setting(
        0.0,
        """Reliability of a voxel (how alike the masks of several prompts are, see `refinement`, times half of 1 and the
        SAM's own estimate of the mask's IoU) below which the generalist says nothing about it, so that the specialist's
        prediction stands; 0: nowhere.""",
        low=0,
        high=1,
        source="UR-SAM, https://arxiv.org/abs/2311.10529, rectifies voxels of high variance over jittered prompts",
    )


@dataclass(frozen=True)
class Prompting:
    """How a SAM is prompted.

    Attributes:
        strategy: Makes prompts of components.
        refinement: Changes them from step to step.
        labels: What prompts call each foreground channel.
        rejection: Which masks are rejected.
        chunk: Largest number of prompts that are decoded at once; bounds the memory.
    """

    strategy: PromptStrategy
    refinement: PromptRefinement
    labels: Sequence[int]
    rejection: RejectionSettings
    chunk: int


def predict_components(
    backend: SAMBackend, embedding: Embedding, components: Sequence[Component], prompting: Prompting
) -> tuple[CasePrediction, PromptCounts]:
    """Decode a prompt for each component and merge the masks.

    Args:
        backend: The SAM.
        embedding: ``N`` encoded images.
        components: ``M`` components of these images; ``image`` indexes ``embedding``.
        prompting: How the SAM is prompted.

    Returns:
        Arrays ``(N, F, *S)``, and the counts.

    Raises:
        ValueError: If the strategy does not give one prompt per component.
    """
    channels = len(prompting.labels)
    prompts = prompting.strategy(components, embedding.image_shape, prompting.labels)
    if prompts.image.tolist() != [component.image for component in components]:
        raise ValueError(
            f"A prompt strategy must give one prompt per component, in their order: got {len(prompts)} prompts for "
            f"{len(components)} components. Make them with prompts.components.to_prompts."
        )
    prediction = CasePrediction.empty((len(embedding), channels, *embedding.image_shape))
    counts = np.zeros((3, channels), dtype=int)
    for component, probs, reliability in _masks(backend, embedding, prompts, components, prompting):
        area = int((probs > 0.5).sum())
        rejected = is_rejected(area, component.voxels, prompting.rejection.factor)
        counts[:, component.channel] += (1, rejected, area == 0)
        if rejected:
            _reject(prediction, component, prompting.rejection.margin)
        else:
            _merge(prediction, component, probs, reliability)
    return prediction, PromptCounts(*(tuple(int(number) for number in row) for row in counts))


def is_rejected(area: int, voxels: int, factor: float) -> bool:
    """Return whether a mask is ``factor`` times smaller or larger than the component that it was prompted with."""
    return not voxels / factor <= area <= voxels * factor


def _masks(
    backend: SAMBackend,
    embedding: Embedding,
    prompts: PromptBatch,
    components: Sequence[Component],
    prompting: Prompting,
) -> Iterator[tuple[Component, np.ndarray, np.ndarray]]:
    """Yield each component with the probability of its mask and its reliability, ``(*S)`` each."""
    for start in range(0, len(components), prompting.chunk):
        part = prompts.select(slice(start, start + prompting.chunk))
        images, image_in_part = part.image.unique(return_inverse=True)
        part = replace(part, image=image_in_part)
        probs, reliability = decode_in_steps(backend, embedding.select(images), part, prompting.refinement)
        for m, component in enumerate(components[start : start + prompting.chunk]):
            yield component, probs[m].numpy(), reliability[m].numpy()


def decode_in_steps(
    backend: SAMBackend, embedding: Embedding, prompts: PromptBatch, refinement: PromptRefinement
) -> tuple[Tensor, Tensor]:
    """Return probability and reliability of the mask of each prompt, ``(M, *S)`` each, on the CPU.

    The variance of values in [0, 1] is at most 1 / 4, so that ``1 - 4 * variance`` is in [0, 1].

    Raises:
        ValueError: If the refinement drops or moves prompts.
    """
    total = square = quality = 0.0
    counted, previous = 0, None
    for step in range(refinement.steps):
        refined = refinement(prompts, embedding.image_shape, step, previous)
        if refined.image.tolist() != prompts.image.tolist():
            raise ValueError(
                f"A prompt refinement must return as many prompts as it got, in their order: got {len(refined)} for "
                f"{len(prompts)}."
            )
        previous = backend.decode(embedding, refined)
        if not refinement.averages and step < refinement.steps - 1:
            continue
        probs = torch.nan_to_num(previous.logits.float(), nan=NO_NUMBER).sigmoid()
        total, square = total + probs, square + probs.square()
        quality = quality + torch.nan_to_num(previous.quality.float(), nan=0.0).clamp(0, 1)
        counted += 1
    mean = total / counted
    alike = 1 - 4 * (square / counted - mean.square()).clamp(0, 0.25)
    own = (1 + quality / counted) / 2
    return mean.cpu(), (alike * own.reshape(-1, *[1] * (mean.ndim - 1))).cpu()


def rejected_window(component: Component, margin: int) -> np.ndarray:
    """Return the voxels of a component's window that count as rejected with it, bool."""
    return ndimage.binary_dilation(component.inside, iterations=margin) if margin else component.inside


def _reject(prediction: CasePrediction, component: Component, margin: int) -> None:
    place = (component.image, component.channel, *component.window)
    prediction.rejected[place] |= rejected_window(component, margin)


def _merge(prediction: CasePrediction, component: Component, probs: np.ndarray, reliability: np.ndarray) -> None:
    """Write one mask into the component's window."""
    place = (component.image, component.channel, *component.window)
    merge_window(prediction, place, probs[component.window], reliability[component.window])


def merge_window(
    prediction: CasePrediction,
    place: tuple[int | slice, ...],
    probs: np.ndarray,
    reliability: np.ndarray,
    seen: np.ndarray | bool = True,
) -> None:
    """Write one mask into a prediction; where masks overlap, the higher probability counts.

    Args:
        prediction: Changed in place.
        place: Index of the window into the prediction's arrays.
        probs: Of the window.
        reliability: Of the window.
        seen: Voxels of the window that the mask speaks of, bool; ``True``: all.
    """
    better = seen & (~prediction.predicted[place] | (probs > prediction.probs[place]))
    prediction.probs[place] = np.where(better, probs, prediction.probs[place])
    prediction.reliability[place] = np.where(better, reliability, prediction.reliability[place])
    prediction.predicted[place] |= seen


def without_doubtful(prediction: CasePrediction, rectify_below: float) -> CasePrediction:
    """Return a prediction that says nothing where its reliability is below ``rectify_below``."""
    return replace(prediction, predicted=prediction.predicted & (prediction.reliability >= rectify_below))
