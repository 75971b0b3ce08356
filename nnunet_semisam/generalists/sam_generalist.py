"""A SAM as a generalist: backend x view x strategy x filter x refinement.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes or regions,
``N`` images, ``*S`` the two or three axes that the SAM sees. Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

import math
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
    PromptCounts,
    stopwatch,
)
from nnunet_semisam.generalists.case_encoder import CaseEncoder
from nnunet_semisam.generalists.embedding_cache import EmbeddingFolder
from nnunet_semisam.generalists.prediction import (
    Prompting,
    RejectionSettings,
    predict_components,
    without_doubtful,
)
from nnunet_semisam.generalists.views import CaseGrid, View, require_spacing
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts.base import PROMPTS, ComponentFilter, PromptRefinement, PromptStrategy
from nnunet_semisam.prompts.components import Component, ComponentSettings, find_components
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend

DECODED_VOXELS = 2**26  # of the masks decoded at once: 256 MiB in float32


@dataclass(frozen=True)
class SAMParts:
    """What a SAM generalist is made of.

    Attributes:
        backend: The SAM.
        view: How volumes become its images.
        strategy: Makes prompts of components.
        component_filter: Chooses the components that are prompted.
        refinement: Changes prompts from step to step.
        cache: Where its embeddings are kept.
        components: Which connected components are found.
        rejection: Which masks are rejected.
        channel: Image channel that it sees.
        picture_axis: Axis along which pictures show slices, where the view has no axis.
        batch_size: Images that are encoded, and quarters of prompts that are decoded, at once.
    """

    backend: SAMBackend
    view: View
    strategy: PromptStrategy
    component_filter: ComponentFilter
    refinement: PromptRefinement
    cache: EmbeddingFolder
    components: ComponentSettings
    rejection: RejectionSettings
    channel: int = 0
    picture_axis: int = 0
    batch_size: int = 16


class SAMGeneralist(Generalist):
    """Prompts a SAM with the components of the specialist's prediction.

    Args:
        name: Name of the model, as its block of settings is called.
        parts: What it is made of.
        labels: What the network's output channels mean.

    Raises:
        UserError: If the SAM does not understand the kinds of prompts that the strategy makes.
    """

    def __init__(self, name: str, parts: SAMParts, labels: Labels) -> None:
        self.name, self.parts, self.labels = name, parts, labels
        self.channel = parts.channel
        self.axis = getattr(parts.view, "axis", parts.picture_axis)
        self._check_kinds()

    def _check_kinds(self) -> None:
        used, understood = self.parts.strategy.kinds, self.parts.backend.prompt_kinds
        if not used <= understood:
            raise UserError(
                f"The prompt strategy of {self.name} makes prompts of the kinds {', '.join(sorted(used))}, but the SAM "
                f"understands {', '.join(sorted(understood))} only. Set {self.name}: {{prompt: ...}} to another of: "
                f"{', '.join(PROMPTS.names())}."
            )
        added = self.parts.refinement.kinds
        if not added <= understood:
            raise UserError(
                f"The prompt refinement of {self.name} makes prompts of the kinds {', '.join(sorted(added))}, but the "
                f"SAM understands {', '.join(sorted(understood))} only. Set {self.name}: {{refinement: ...}} to "
                "another one."
            )

    @torch.no_grad()
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case. Its components are found once; nothing is encoded if there are none.

        Images are decoded in groups of ``batch_size``: mask prompts of all slices could fill the memory.

        Raises:
            UserError: If the image lacks the channel, or the view needs a spacing that is not known.
        """
        view, batch_size = self.parts.view, self.parts.batch_size
        require_spacing(view, case.name, case.spacing)
        grid = CaseGrid(case.image.shape[1:], case.spacing)
        seconds = {"encode": 0.0, "decode": 0.0}
        with stopwatch(seconds, "decode"):
            components = self._components(case.specialist, grid)
        if not components:
            empty = CasePrediction.empty((self.labels.channels, *grid.shape))
            return CaseResult(empty, PromptCounts.none(self.labels.channels), seconds)
        hits = self.parts.cache.hits
        with stopwatch(seconds, "encode"):
            embedding = self._encoder().embedding(case.name, case.image, grid)
        prediction = CasePrediction.empty((len(embedding), self.labels.channels, *embedding.image_shape))
        counts = PromptCounts.none(self.labels.channels)
        with stopwatch(seconds, "decode"):
            for start in range(0, len(embedding), batch_size):
                group = slice(start, start + batch_size)
                mine = [replace(c, image=c.image - start) for c in components if start <= c.image < group.stop]
                if not mine:
                    continue
                few = embedding.select(group)
                part, count = predict_components(self.parts.backend, few, mine, self._prompting(few))
                for name, array in vars(part).items():
                    getattr(prediction, name)[group] = array
                counts = counts + count
        volume = CasePrediction(**{name: view.back(array, grid) for name, array in vars(prediction).items()})
        volume = without_doubtful(volume, self.parts.rejection.rectify_below)
        return CaseResult(volume, counts, seconds, self.parts.cache.hits > hits, components)

    def _encoder(self) -> CaseEncoder:
        parts = self.parts
        return CaseEncoder(self.name, parts.backend, parts.view, parts.cache, parts.channel, parts.batch_size)

    def _components(self, specialist: np.ndarray, grid: CaseGrid) -> Sequence[Component]:
        """Return the components to prompt with, in the images of the view."""

        def find(probs: torch.Tensor) -> list[Component]:
            return find_components(probs, self.labels.has_regions, self.parts.components, self.parts.batch_size)

        found = self.parts.view.components(self.labels.foreground(specialist), grid, find)
        chosen = self.parts.component_filter(found)
        if chosen is None:  # without this it would look as if nothing had been found
            raise ValueError(f"The component filter of {self.name} returned None instead of components.")
        return chosen

    def _prompting(self, embedding: Embedding) -> Prompting:
        """Return how images are prompted: four prompts per image at once, fewer where masks are very large."""
        bounded = min(4 * self.parts.batch_size, DECODED_VOXELS // math.prod(embedding.image_shape))
        return Prompting(
            self.parts.strategy,
            self.parts.refinement,
            self.labels.prompt_labels,
            self.parts.rejection,
            chunk=max(1, bounded),
        )

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        return {"name": self.name, "fingerprint": self.parts.backend.fingerprint, "view": self.parts.view.name}

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return the prompts of slice ``index`` (3D: of the volume), not refined; see :class:`Generalist`."""
        image = self.parts.view.image_of_slice(self.axis, index)
        shown = [component for component in result.components if image is None or component.image == image]
        spatial = result.prediction.probs.shape[1:]
        if self.parts.view.spatial_dims == 2:
            spatial = tuple(size for axis, size in enumerate(spatial) if axis != self.axis)
        return self.parts.strategy(shown, spatial, self.labels.prompt_labels)
