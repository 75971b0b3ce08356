"""What a generalist is: anything that predicts classes of a case from its image and the specialist's prediction.

SemiSAM's words: the network is the specialist, a SAM a generalist.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes or regions.
Volumes are ``(Z, Y, X)`` in the axis order of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from nnunet_semisam.data.geometry import Matrix
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.weights import GeneralistWeights
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts.components import Component
from nnunet_semisam.sam.base import PromptBatch
from nnunet_semisam.settings import Settings

Spacing = tuple[float, float, float]
Values = float | np.ndarray


def no_spacing(case: str) -> Spacing | None:
    """Return ``None``: the voxel size of no case is known."""
    return None


@dataclass(frozen=True)
class CaseInput:
    """What a generalist gets to know of a case.

    Attributes:
        name: Name of the case.
        image: As nnU-Net preprocessed it, ``(C, Z, Y, X)``, float32.
        specialist: The specialist's probabilities, spurious components removed, ``(K, Z, Y, X)``, in [0, 1].
        spacing: Voxel size along Z, Y, X in mm; ``None`` if it is not known (2D configurations of old data).
        direction: Column ``i`` is the unit vector along array axis ``i`` in patient coordinates (z, y, x), which lead
            to head, back and left; ``None`` if it is not known.
    """

    name: str
    image: np.ndarray
    specialist: np.ndarray
    spacing: Spacing | None = None
    direction: Matrix | None = None


@dataclass(frozen=True)
class CasePrediction:
    """What a generalist predicts, per foreground channel; all arrays ``(F, Z, Y, X)``.

    Attributes:
        probs: Probability of the class, float32, in [0, 1]; says nothing where ``predicted`` is false.
        reliability: How alike the predictions for several variants of the prompt are, times the SAM's own estimate of
            its quality mapped to [0.5, 1]; float32, in [0, 1].
        predicted: Where a prediction counts, bool: the windows of the components whose mask was accepted.
        rejected: Components (and a margin) whose mask was empty or out of all proportion, bool.
    """

    probs: np.ndarray
    reliability: np.ndarray
    predicted: np.ndarray
    rejected: np.ndarray

    @classmethod
    def empty(cls, shape: Sequence[int]) -> CasePrediction:
        """Return the prediction of a generalist that predicted nothing, ``shape`` being ``(F, Z, Y, X)``."""
        return cls(
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
            np.zeros(shape, dtype=bool),
            np.zeros(shape, dtype=bool),
        )

    def weights_at(self, f: int, weights: GeneralistWeights) -> tuple[Values, Values, Values]:
        """Return what the calibration found of one channel: numbers, or maps ``(Z, Y, X)`` where they differ.

        Args:
            f: The foreground channel.
            weights: What it found for the generalist as a whole.

        Returns:
            Its weight, and its accuracy where it disagrees with the specialist: inside of the class, and outside.
        """
        return (weights.weight[f], *weights.disagreement[f])


@dataclass(frozen=True)
class PromptCounts:
    """How many components of each foreground channel were prompted, and what came of it; ``F`` numbers each.

    Attributes:
        prompts: Components that the generalist was prompted with.
        rejected: Masks that were rejected, empty ones included.
        empty: Masks that were empty.
    """

    prompts: tuple[int, ...]
    rejected: tuple[int, ...]
    empty: tuple[int, ...]

    @classmethod
    def none(cls, channels: int) -> PromptCounts:
        """Return the counts of a generalist without prompts."""
        return cls((0,) * channels, (0,) * channels, (0,) * channels)

    def __add__(self, other: PromptCounts) -> PromptCounts:
        def add(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(a + b for a, b in zip(first, second, strict=True))

        return PromptCounts(
            add(self.prompts, other.prompts), add(self.rejected, other.rejected), add(self.empty, other.empty)
        )


@dataclass(frozen=True)
class CaseResult:
    """A prediction and how it came about.

    Attributes:
        prediction: Arrays ``(F, Z, Y, X)``.
        counts: How many prompts there were, and how many masks were rejected.
        seconds: Time of ``encode`` and ``decode`` (finding components and making prompts included).
        cache_hit: Whether the embedding was cached; ``None`` if none was needed.
        components: What the generalist was prompted with, in its own view; empty for generalists without prompts.
        members: The results of an ensemble's members; empty for a single generalist.
        seconds_by_generalist: What each member of an ensemble took, by its name; empty for a single generalist.
    """

    prediction: CasePrediction
    counts: PromptCounts
    seconds: dict[str, float]
    cache_hit: bool | None = None
    components: Sequence[Component] = ()
    members: Sequence[CaseResult] = dataclasses.field(default_factory=tuple)
    seconds_by_generalist: dict[str, float] = dataclasses.field(default_factory=dict)


class LabeledSource(Protocol):
    """The labeled training cases of the fold, for generalists that learn from them."""

    @property
    def cases(self) -> Sequence[str]:
        """Return the names of the cases."""

    def group_of(self, case: str) -> str:
        """Return the patient of a case."""

    def load_image(self, case: str) -> np.ndarray:
        """Return a preprocessed image, ``(C, Z, Y, X)``, float32."""

    def load_label(self, case: str) -> np.ndarray:
        """Return a label map, ``(Z, Y, X)``, int16."""


@dataclass(frozen=True)
class GeneralistContext:
    """What generalists are built of.

    Attributes:
        settings: The settings of the run; ``sam.models`` names the generalists, each has a block of its name.
        labels: What the network's output channels mean.
        cache: Where embeddings are kept.
        spacing: Spacing of the configuration in mm, two or three axes.
        device: Where generalists run.
        predict: The specialist: returns its probabilities ``(K, Z, Y, X)`` of an image ``(C, Z, Y, X)``.
        labeled: The labeled training cases of the fold.
        spacing_of: Returns the voxel size of a case along Z, Y, X in mm, or ``None`` if it is not known.
        dataset: Name of the data set; empty: not known.
    """

    settings: Settings
    labels: Labels
    cache: EmbeddingCache
    spacing: Sequence[float]
    device: torch.device
    predict: Callable[[np.ndarray], torch.Tensor]
    labeled: LabeledSource
    spacing_of: Callable[[str], Spacing | None] = no_spacing
    dataset: str = ""


class Generalist(ABC):
    """Predicts the classes of a case.

    Attributes:
        name: Name in logs, records and calibration; two generalists of an ensemble have different names.
        model: Name of the model behind it, if there are several generalists of one; empty: its own name.
        learned: Labeled cases that it was adapted to, or that it predicts from labels of the same patient: it knows
            them too well to be measured on them.
        channel: Image channel that pictures show.
        axis: Axis (0, 1 or 2) along which pictures show slices.

    Example:
        A generalist that predicts whatever is bright, everywhere:

        >>> class Bright(Generalist):
        ...     name = "bright"
        ...     def predict_case(self, case):
        ...         bright = (case.image[:1] > 0.5).astype(np.float32)
        ...         everywhere = np.ones(bright.shape, dtype=bool)
        ...         prediction = CasePrediction(bright, np.ones_like(bright), everywhere, ~everywhere)
        ...         return CaseResult(prediction, PromptCounts.none(1), {})
        >>> case = CaseInput("case_1", np.full((1, 2, 3, 3), 0.9), np.zeros((2, 2, 3, 3)))
        >>> float(Bright().predict_case(case).prediction.probs.mean())
        1.0
    """

    name: str
    model: str = ""
    learned: frozenset[str] = frozenset()
    channel: int = 0
    axis: int = 0

    @abstractmethod
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; no gradients."""

    def end_round(self) -> None:
        """Take note that a round is complete; every process calls it, those without cases, too.

        A generalist that remembers cases must not use what it saw in a round before the round ends: the order of cases,
        and which process has which, makes no difference then.
        """
        return

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered from round to round, for the checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what :meth:`state_dict` returned.

        Raises:
            ValueError: If it cannot be used; KeyError, TypeError and AttributeError say the same.
        """
        return

    def about(self) -> dict[str, str]:
        """Return what the records of rounds say of it: the name; of a SAM its ``fingerprint`` and ``view`` as well."""
        return {"name": self.name}

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts of a result that slice ``index`` along ``axis`` shows (3D: all), for pictures."""
        nothing = torch.zeros(0, dtype=torch.int64)
        return PromptBatch(nothing, nothing)


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent in a ``with`` block to ``seconds[name]``."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
