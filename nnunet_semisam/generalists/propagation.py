"""Each object is prompted in one slice, and followed from there through all others.

MedSAM2, https://arxiv.org/abs/2504.03600, uses SAM 2 on volumes like this, with prompts of an expert. Here the slice is
the one in which the specialist's component is largest and most certain: where the specialist is good, the SAM is told;
elsewhere it sees for itself.

Shapes in this file: ``C`` image channels, ``F`` foreground classes or regions, ``N`` slices along the chosen axis,
``H, W`` of a slice. Volumes are ``(Z, Y, X)``; here they are turned to ``(N, H, W)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    GeneralistContext,
    PromptCounts,
    stopwatch,
)
from nnunet_semisam.generalists.prediction import (
    NO_NUMBER,
    RejectionSettings,
    is_rejected,
    merge_window,
    rejected_window,
)
from nnunet_semisam.generalists.settings import register_generalist
from nnunet_semisam.generalists.video_sam import VideoEncoder, VideoSAMSettings
from nnunet_semisam.generalists.views import as_tensor
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.base import PromptStrategy
from nnunet_semisam.prompts.components import Component, ComponentSettings, find_components
from nnunet_semisam.sam.base import Embedding, PromptBatch
from nnunet_semisam.sam.families import family
from nnunet_semisam.settings import setting


@dataclass(frozen=True, kw_only=True)
class PropagationSettings(VideoSAMSettings):
    """Objects are prompted in their best slice and followed through the others by the memory of a SAM."""

    prompt: str | None = setting(None, "Name of the prompt strategy; null takes the one for the model.")
    max_slices: int = setting(
        128,
        """Most slices through which an object is followed, on either side of the slice that it is prompted in; what
        lies beyond gets no mask. Bounds the time that a large volume takes.""",
        low=1,
        source="ours",
    )

    @property
    def strategy(self) -> str:
        """Return the name of the prompt strategy."""
        return self.prompt or family(self.model).prompt

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds, understood = PROMPTS.get(self.strategy)().kinds, frozenset(family(self.model).prompts)
        if not kinds <= understood:
            raise UserError(
                f"{self.model} does not understand the prompts of the strategy {self.strategy!r} "
                f"({', '.join(sorted(kinds))}): it was trained with {', '.join(sorted(understood))}."
            )


@dataclass(frozen=True)
class FollowedObject:
    """An object in the volume, and the slice in which it is prompted.

    Attributes:
        body: The object in the volume ``(N, H, W)``; ``image`` is 0.
        prompted: Its component in one slice; ``image`` is the slice.
        slices: First and one past the last slice through which it is followed.
    """

    body: Component
    prompted: Component
    slices: tuple[int, int]


def objects_to_follow(
    probs: np.ndarray, overlapping: bool, settings: ComponentSettings, max_slices: int
) -> list[FollowedObject]:
    """Return the objects of a volume, each with its best slice: the most voxels, each weighed by its certainty.

    An object is followed through its window (its extent and a margin), as masks count in windows everywhere.

    Args:
        probs: The specialist's foreground probabilities, ``(F, N, H, W)``, in [0, 1].
        overlapping: Whether the channels are regions that may overlap.
        settings: The block ``components``.
        max_slices: Most slices on either side of the prompted one.

    Example:
        >>> probs = np.zeros((1, 5, 20, 20))
        >>> probs[0, 1:4, 4:9, 4:9] = 0.7
        >>> probs[0, 3, 4:9, 4:9] = 0.9
        >>> found, = objects_to_follow(probs, False, ComponentSettings(), max_slices=1)
        >>> found.body.voxels, found.prompted.image, found.slices
        (75, 3, (2, 5))
    """
    tensor = as_tensor(probs).float()
    in_slices = find_components(tensor.transpose(0, 1), overlapping, settings, images_at_once=16)
    found = []
    for body in find_components(tensor[None], overlapping, settings):
        parts = [part for part in in_slices if _is_part(part, body)]
        if parts:
            best = max(parts, key=lambda part: float(part.odds[part.inside].sum()))
            first, last = body.window[0].start, body.window[0].stop
            slices = max(first, best.image - max_slices), min(last, best.image + max_slices + 1)
            found.append(FollowedObject(body, best, slices))
    return found


def _is_part(part: Component, body: Component) -> bool:
    """Return whether a component of a slice belongs to a component of the volume: one voxel decides."""
    first, last = body.window[0].start, body.window[0].stop
    if part.channel != body.channel or not first <= part.image < last:
        return False
    within = np.unravel_index(part.inside.argmax(), part.inside.shape)
    place = [part.image, *(window.start + int(at) for window, at in zip(part.window, within, strict=True))]
    inner = [at - window.start for at, window in zip(place, body.window, strict=True)]
    if any(not 0 <= at < size for at, size in zip(inner, body.inside.shape, strict=True)):
        return False
    return bool(body.inside[tuple(inner)])


class PropagationGeneralist(Generalist):
    """Prompts a SAM with each object's best slice; the masks of all slices come from its memory.

    Args:
        name: Name in logs, records and calibration.
        video: The SAM and its view of cases.
        strategy: Makes the prompts.
        settings: The block ``propagation``.
        components: Which connected components are found.
        rejection: Which masks are rejected.
        labels: What the network's output channels mean.
    """

    def __init__(
        self,
        name: str,
        video: VideoEncoder,
        strategy: PromptStrategy,
        settings: PropagationSettings,
        components: ComponentSettings,
        rejection: RejectionSettings,
        labels: Labels,
    ) -> None:
        self.name, self.video, self.strategy, self.settings = name, video, strategy, settings
        self.components, self.rejection, self.labels = components, rejection, labels
        self.channel, self.axis = settings.channel, video.axis

    @torch.no_grad()
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; nothing is encoded if there is no object. See :class:`Generalist`.

        Raises:
            UserError: If the image lacks the channel.
        """
        seconds = {"encode": 0.0, "decode": 0.0}
        probs = self.video.slices_first(self.labels.foreground(case.specialist))
        with stopwatch(seconds, "decode"):
            objects = objects_to_follow(probs, self.labels.has_regions, self.components, self.settings.max_slices)
        prediction = CasePrediction.empty(probs.shape)
        if not objects:
            return self._result(prediction, PromptCounts.none(len(probs)), seconds, [], None)
        hits = self.video.encoder.cache.hits
        with stopwatch(seconds, "encode"):
            embedding = self.video.embedding(case.name, case.image)
        cached = self.video.encoder.cache.hits > hits
        counts = np.zeros((3, len(probs)), dtype=int)
        with stopwatch(seconds, "decode"):
            for followed in objects:
                counts[:, followed.body.channel] += self._add(prediction, followed, embedding)
        total = PromptCounts(*(tuple(int(number) for number in row) for row in counts))
        return self._result(prediction, total, seconds, [followed.prompted for followed in objects], cached)

    def _result(
        self,
        prediction: CasePrediction,
        counts: PromptCounts,
        seconds: dict[str, float],
        prompted: Sequence[Component],
        cached: bool | None,
    ) -> CaseResult:
        """Return the result with its maps ``(F, N, H, W)`` turned back to ``(F, Z, Y, X)``."""
        predicted = prediction.predicted & (prediction.reliability >= self.rejection.rectify_below)
        maps = vars(replace(prediction, predicted=predicted))
        volume = CasePrediction(**{name: self.video.back(array) for name, array in maps.items()})
        return CaseResult(volume, counts, seconds, cached, prompted)

    def _add(self, prediction: CasePrediction, followed: FollowedObject, embedding: Embedding) -> tuple[int, int, int]:
        """Follow one object and merge its mask; return whether it was prompted, rejected and empty, as numbers."""
        body, (first, last) = _cut(followed.body, followed.slices), followed.slices
        few = embedding.select(slice(first, last))
        part = replace(followed.prompted, image=followed.prompted.image - first)
        prompts = self.strategy([part], embedding.image_shape, self.labels.prompt_labels)
        logits = torch.nan_to_num(self.video.backend.propagate(few, prompts)[0], nan=NO_NUMBER)
        quality = float(torch.nan_to_num(self.video.backend.decode(few, prompts).quality[0], nan=0.0).clamp(0, 1))
        probs = logits.sigmoid().numpy()
        area = int((probs > 0.5).sum())
        place = (body.channel, *body.window)
        if is_rejected(area, body.voxels, self.rejection.factor):
            prediction.rejected[place] |= rejected_window(body, self.rejection.margin)
            return 1, 1, int(area == 0)
        window = probs[(slice(None), *body.window[1:])]
        merge_window(prediction, place, window, np.full_like(window, (1 + quality) / 2))
        return 1, 0, 0

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        return {"name": self.name, **self.video.about()}

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts of slice ``index``; see :class:`Generalist`."""
        shown = [component for component in result.components if component.image == index]
        spatial = [size for axis, size in enumerate(result.prediction.probs.shape[1:]) if axis != self.axis]
        return self.strategy(shown, spatial, self.labels.prompt_labels)


def _cut(body: Component, slices: tuple[int, int]) -> Component:
    """Return the part of a component that lies in some slices; its window is cut to them."""
    start = body.window[0].start
    inner = slice(slices[0] - start, slices[1] - start)
    arrays = {name: getattr(body, name)[inner] for name in ("inside", "member", "other", "odds")}
    return replace(body, window=(slice(*slices), *body.window[1:]), **arrays)


@register_generalist("propagation", PropagationSettings)
def build(context: GeneralistContext) -> PropagationGeneralist:
    """Return what ``sam: {models: [propagation]}`` names, with a SAM of its own.

    Raises:
        UserError: If the SAM cannot be loaded or has no memory.
    """
    settings: PropagationSettings = context.settings.block("propagation")
    return PropagationGeneralist(
        "propagation",
        VideoEncoder.of("propagation", context),
        PROMPTS.get(settings.strategy)(context.settings.block("prompts")),
        settings,
        context.settings.block("components"),
        context.settings.block("rejection"),
        context.labels,
    )
