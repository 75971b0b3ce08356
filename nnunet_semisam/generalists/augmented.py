"""One SAM, several versions of the image: flipped and with noise; what it predicts alike each time is more reliable.

Test-time augmentation as a Monte-Carlo estimate of uncertainty: Wang et al. 2019, https://arxiv.org/abs/1807.07356.
Unlike there, versions are drawn once for a case, so that rounds are deterministic and embeddings can be cached.

Shapes in this file: ``F`` foreground classes or regions, ``V`` versions of the image. Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, CaseResult, Generalist
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist
from nnunet_semisam.sam.base import PromptBatch


@dataclass(frozen=True)
class ImageVersion:
    """How an image is changed.

    Attributes:
        number: 0 is the image itself.
        axes: Spatial axes (0, 1 or 2) that are mirrored.
        noise: Standard deviation of Gaussian noise, as a share of the standard deviation of each channel.
    """

    number: int
    axes: tuple[int, ...] = ()
    noise: float = 0.0

    @property
    def name(self) -> str:
        """Return a text that differs between versions that differ; part of the name of the embedding cache."""
        return f"mirrored{''.join(map(str, self.axes))}-noise{self.noise:g}-{self.number}"

    def mirror(self, array: np.ndarray) -> np.ndarray:
        """Return an array ``(channels, Z, Y, X)`` mirrored; twice gives the array itself."""
        return np.flip(array, [axis + 1 for axis in self.axes])

    def change(self, case: CaseInput) -> CaseInput:
        """Return the changed case; its specialist's prediction is mirrored along."""
        image = np.asarray(case.image, dtype=np.float32)
        if self.noise > 0:
            random = np.random.default_rng([zlib.crc32(case.name.encode()), self.number])
            strength = self.noise * image.std(axis=(1, 2, 3), keepdims=True)
            image = image + strength * random.standard_normal(image.shape, dtype=np.float32)
        specialist = np.ascontiguousarray(self.mirror(case.specialist))
        return replace(case, image=np.ascontiguousarray(self.mirror(image)), specialist=specialist)


def versions(count: int, axis: int, noise: float) -> list[ImageVersion]:
    """Return the image itself and ``count`` further versions.

    They are mirrored along the axes within slices in turns: the first, the second, both, none, and so on.

    Args:
        count: How many besides the image itself.
        axis: Spatial axis across slices, which is never mirrored.
        noise: Of the further versions.
    """
    first, second = (each for each in range(3) if each != axis)
    turns = ((first,), (second,), (first, second), ())
    return [ImageVersion(0), *(ImageVersion(v + 1, turns[v % len(turns)], noise) for v in range(count))]


class AugmentedGeneralist(Generalist):
    """The mean over versions of the image; where they differ it is less reliable.

    Args:
        looks: A generalist for each version, of one name; the first sees the image itself, and pictures show its
            prompts.
        changes: ``V`` versions.
    """

    def __init__(self, looks: Sequence[SAMGeneralist], changes: Sequence[ImageVersion]) -> None:
        self.looks, self.changes = tuple(looks), tuple(changes)
        self.name, self.channel, self.axis = looks[0].name, looks[0].channel, looks[0].axis
        self.parts = looks[0].parts

    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; counts are those of the image itself; see :class:`Generalist`."""
        results, found = [], []
        for look, change in zip(self.looks, self.changes, strict=True):
            result = look.predict_case(change.change(case))
            if not result.components and not results:
                return result  # nothing to prompt for; in a later version that is one more prediction of nothing
            found.append(
                CasePrediction(**{name: change.mirror(array) for name, array in vars(result.prediction).items()})
            )
            results.append(result)
        seconds = {name: sum(result.seconds.get(name, 0.0) for result in results) for name in results[0].seconds}
        hits = all(result.cache_hit for result in results)
        return replace(results[0], prediction=merge_versions(found), seconds=seconds, cache_hit=hits)

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        return self.looks[0].about()

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts on the image itself; see :class:`Generalist`."""
        return self.looks[0].prompts_in_slice(result, index)


def merge_versions(predictions: Sequence[CasePrediction]) -> CasePrediction:
    """Return the mean over the versions that predicted a voxel, and how alike they are.

    Reliability is the mean of theirs, times ``1 - 4 * variance`` of their probabilities, which is in [0, 1], times the
    share of the versions whose mask was accepted of those that predicted there at all.

    Args:
        predictions: ``V`` predictions with arrays ``(F, Z, Y, X)``.
    """
    shape = predictions[0].probs.shape
    count, tried, total, square, reliability = (np.zeros(shape, dtype=np.float32) for _ in range(5))
    for each in predictions:
        here = each.predicted & ~each.rejected
        count += here
        tried += here | each.rejected
        total += each.probs * here
        square += each.probs**2 * here
        reliability += each.reliability * here
    some = np.maximum(count, 1)
    variance = np.clip(square / some - (total / some) ** 2, 0, 0.25)
    alike = (1 - 4 * variance) * count / np.maximum(tried, 1)
    predicted = count > 0
    return CasePrediction(total / some, reliability / some * alike, predicted, (tried > 0) & ~predicted)
