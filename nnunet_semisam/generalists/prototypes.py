"""Class prototypes in the features of a SAM as a generalist: labels travel by similarity, nothing is prompted.

SemiSAM-O1, Zhang et al. 2026, https://arxiv.org/abs/2604.24109: labeled cases give one prototype per class; a cell of
another case belongs to the class whose prototype is most alike; uncertain cases are corrected by their neighbours.
docs/methods.md says where this differs.

Shapes in this file: ``C`` image channels, ``F`` foreground classes or regions, ``P`` sides (``class_prototypes.py``),
``N`` images, ``c`` feature channels, ``*S`` voxels of an image, ``*G`` cells of a feature map.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam import ranks
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.generalists.base import (
    CaseInput,
    CasePrediction,
    CaseResult,
    Generalist,
    GeneralistContext,
    LabeledSource,
    PromptCounts,
    Spacing,
    stopwatch,
)
from nnunet_semisam.generalists.case_encoder import CaseEncoder
from nnunet_semisam.generalists.case_memory import CaseMemory, CaseSummary
from nnunet_semisam.generalists.class_prototypes import (
    mean_entropy,
    mean_prototypes,
    probabilities,
    prototypes_of,
    sides_of,
    similarity,
)
from nnunet_semisam.generalists.feature_grid import FeatureGrid, dense_features, grid_of
from nnunet_semisam.generalists.lent_labels import learned_from_itself, lenders_of
from nnunet_semisam.generalists.settings import register_generalist
from nnunet_semisam.generalists.views import CaseGrid, as_tensor, choose_view, require_spacing, slice_axis
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts.components import Component, ComponentSettings, find_components
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.families import family
from nnunet_semisam.settings import SettingsBlock, setting

LOGGER = logging.getLogger(__name__)
PAPER = "SemiSAM-O1, https://arxiv.org/abs/2604.24109"


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings(SettingsBlock):
    """Class prototypes in the features of a SAM: which features, where they count, who corrects uncertain cases."""

    encoder: str = setting(
        "nano",
        "Name of the SAM whose features are compared; one that sees slices.",
        source=f"SAM-Med3D-turbo in {PAPER}",
    )
    checkpoint: str | None = setting(
        None, "File with the weights of `encoder`; null looks in `$nnUNet_sam` (nano: in the package)."
    )
    view: str | None = setting(
        None,
        "How a volume becomes images, as for any SAM; null takes what fits `encoder`.",
        choices=("slices", "volume"),
    )
    axis: int | None = setting(
        None,
        "View `slices`: spatial axis along which slices are taken; null takes that of the largest spacing.",
        choices=(0, 1, 2),
    )
    channel: int = setting(0, "Image channel that the SAM sees, counted from 0.", low=0)
    where: str = setting(
        "components",
        """Where prototypes count: `components`, in the windows of the specialist's components, like the masks of a
        SAM; `everywhere`, also where the specialist sees nothing, as published.""",
        choices=("components", "everywhere"),
        source="docs/benchmarks.md, Prototypes",
    )
    temperature: float = setting(
        0.1,
        """Similarities (cosines) are divided by this before the softmax. The published method takes the most alike
        class and needs none.""",
        above=0,
        source="docs/benchmarks.md, Prototypes",
    )
    uncertain_share: float = setting(
        0.1,
        "Share of the cases, those of the highest mean entropy, that their neighbours correct; 0 corrects none.",
        low=0,
        high=1,
        source=PAPER,
    )
    neighbours: int = setting(5, "Neighbours that correct an uncertain case.", low=1, source=PAPER)

    def __post_init__(self) -> None:
        super().__post_init__()
        family(self.encoder)


@dataclass(frozen=True)
class PrototypeParts:
    """What prototypes are made with.

    Attributes:
        encoder: Gives the features of a case.
        labeled: The labeled training cases of the fold.
        settings: The block ``prototypes``.
        components: Which connected components are found.
        spacing_of: Returns the voxel size of a labeled case along Z, Y, X in mm, ``None`` if it is not known.
        picture_axis: Axis along which pictures show slices, where the view has no axis.
    """

    encoder: CaseEncoder
    labeled: LabeledSource
    settings: PrototypeSettings
    components: ComponentSettings
    spacing_of: Callable[[str], Spacing | None]
    picture_axis: int = 0


@dataclass(frozen=True)
class _SeenCase:
    """Features ``(N, c, *G)`` of a case, and how its cells lie over its images."""

    case: CaseInput
    grid: CaseGrid
    features: Tensor
    cells: FeatureGrid


class PrototypeGeneralist(Generalist):
    """Compares the features of a case with the class prototypes of labeled cases.

    Which labeled cases lend their prototypes to a labeled case, which the calibration measures, says
    :mod:`nnunet_semisam.generalists.lent_labels`.

    Args:
        name: Name in logs, records and calibration.
        parts: What it is made of.
        labels: What the network's output channels mean.
    """

    def __init__(self, name: str, parts: PrototypeParts, labels: Labels) -> None:
        self.name, self.parts, self.labels = name, parts, labels
        self.channel = parts.encoder.channel
        self.axis = getattr(parts.encoder.view, "axis", parts.picture_axis)
        self.memory = CaseMemory(parts.encoder.backend.fingerprint)
        self._labeled: dict[str, CaseSummary] | None = None
        self._of_round: dict[str, CaseSummary] = {}
        self.learned = learned_from_itself(name, parts.labeled)

    @torch.no_grad()
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; see :class:`Generalist`.

        Raises:
            UserError: If the image lacks the channel, no labeled case can be read, or the view needs a spacing that is
                not known.
        """
        seconds = {"encode": 0.0, "decode": 0.0}
        with stopwatch(seconds, "encode"):
            labeled = self._labeled_summaries()
            hits = self.parts.encoder.cache.hits
            seen = self._see(case)
            cached = self.parts.encoder.cache.hits > hits
        with stopwatch(seconds, "decode"):
            prototypes = self._prototypes_for(seen, labeled)
            prediction = self._predict(seen, prototypes)
        return CaseResult(prediction, PromptCounts.none(self.labels.channels), seconds, cached)

    def about(self) -> dict[str, str]:
        """Return name, weights and view; see :class:`Generalist`."""
        encoder = self.parts.encoder
        return {"name": self.name, "fingerprint": encoder.backend.fingerprint, "view": encoder.view.name}

    def end_round(self) -> None:
        """Remember the cases of the round, those of all processes; see :class:`Generalist`."""
        for cases in ranks.gathered(self._of_round):
            self.memory.update(cases)
        self._of_round = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the memory; see :class:`Generalist`."""
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a memory; see :class:`Generalist`."""
        self.memory.load_state_dict(state)

    # ----------------------------------------------------------------------------------------------------- features

    def _see(self, case: CaseInput) -> _SeenCase:
        encoder = self.parts.encoder
        require_spacing(encoder.view, case.name, case.spacing)
        grid = CaseGrid(case.image.shape[1:], case.spacing)
        embedding = encoder.embedding(case.name, case.image, grid)
        cells = grid_of(embedding, encoder.backend.covered(embedding.image_shape))
        return _SeenCase(case, grid, dense_features(embedding).float(), cells)

    def _summary(self, seen: _SeenCase, label: np.ndarray, uncertainty: float) -> CaseSummary:
        """Return what is remembered of a case with a label map ``(Z, Y, X)``."""
        sides = self.parts.encoder.view.images(sides_of(label, self.labels), seen.grid)
        shares = seen.cells.to_cells(as_tensor(sides))
        image = torch.ones(len(seen.features), 1, *seen.cells.image_shape)  # cells beyond it show padding
        (overall,) = prototypes_of(seen.features, seen.cells.to_cells(image))
        return CaseSummary(prototypes_of(seen.features, shares), overall, uncertainty)

    def _labeled_summaries(self) -> dict[str, CaseSummary]:
        """Return the summaries of the labeled cases that can be read, made once."""
        if self._labeled is None:
            source, found, problems = self.parts.labeled, {}, {}
            for name in source.cases:
                try:
                    image, label = source.load_image(name), source.load_label(name)
                    seen = self._see(CaseInput(name, image, np.empty(0), self.parts.spacing_of(name)))
                    found[name] = self._summary(seen, label, 0.0)
                except UserError as error:
                    problems[name] = str(error)
            if problems:
                first = next(iter(problems.values()))
                if not found:
                    raise UserError(f"{self.name}: no labeled case can be used for prototypes. {first}")
                LOGGER.warning(
                    "%s: %d labeled cases give no prototypes: %s. %s",
                    self.name,
                    len(problems),
                    name_some(list(problems), 5),
                    first,
                )
            self._labeled = found
        return self._labeled

    # --------------------------------------------------------------------------------------------------- prototypes

    def _prototypes_for(self, seen: _SeenCase, labeled: dict[str, CaseSummary]) -> Tensor:
        """Return the prototypes that a case is compared with, ``(P, c)``."""
        name, specialist = seen.case.name, seen.case.specialist
        if name in labeled:
            lent = [labeled[each].prototypes for each in lenders_of(name, self.parts.labeled) if each in labeled]
            return mean_prototypes(lent) if lent else torch.zeros_like(labeled[name].prototypes)  # predict nothing
        label = self.labels.label_map(self.labels.foreground(specialist))
        mine = self._summary(seen, label, mean_entropy(specialist, self.labels))
        self._of_round[name] = mine
        settings = self.parts.settings
        threshold = self.memory.threshold(settings.uncertain_share)
        if settings.uncertain_share > 0 and threshold is not None and mine.uncertainty >= threshold:
            nearest = self.memory.neighbours(name, mine.overall, threshold, labeled, settings.neighbours)
            if nearest:
                return mean_prototypes([each.prototypes for each, _ in nearest], [cosine for _, cosine in nearest])
        return mean_prototypes([each.prototypes for each in labeled.values()])

    # --------------------------------------------------------------------------------------------------- prediction

    def _predict(self, seen: _SeenCase, prototypes: Tensor) -> CasePrediction:
        view, settings = self.parts.encoder.view, self.parts.settings
        known = prototypes.norm(dim=1) > 0
        alike = seen.cells.to_voxels(similarity(seen.features, prototypes))
        probs, certainty = probabilities(alike, known, self.labels, settings.temperature)
        channels = self.labels.channels
        comparable = known[channels:] & known[:channels] if self.labels.has_regions else known[1:] & (known.sum() > 1)
        predicted = self._counting(seen, probs.shape) & comparable.numpy().reshape(1, -1, *[1] * (probs.ndim - 2))
        volume = {
            "probs": view.back(probs.numpy(), seen.grid),
            "reliability": view.back(certainty.numpy(), seen.grid),
            "predicted": view.back(predicted, seen.grid),
        }
        return CasePrediction(**volume, rejected=np.zeros_like(volume["predicted"]))

    def _counting(self, seen: _SeenCase, shape: tuple[int, ...]) -> np.ndarray:
        """Return where prototypes count, ``(N, F, *S)``, bool."""
        if self.parts.settings.where == "everywhere":
            return np.ones(shape, dtype=bool)

        def find(probs: Tensor) -> list[Component]:
            return find_components(probs, self.labels.has_regions, self.parts.components, self.parts.encoder.batch_size)

        counting = np.zeros(shape, dtype=bool)
        foreground = self.labels.foreground(seen.case.specialist)
        for component in self.parts.encoder.view.components(foreground, seen.grid, find):
            counting[(component.image, component.channel, *component.window)] = True
        return counting


@register_generalist("prototypes", PrototypeSettings)
def build(context: GeneralistContext) -> PrototypeGeneralist:
    """Return what ``sam: {models: [prototypes]}`` names, with a SAM of its own.

    Raises:
        UserError: If the SAM cannot be loaded or does not fit the view.
    """
    settings: PrototypeSettings = context.settings.block("prototypes")
    batch_size = context.settings.block("sam").batch_size
    options = BackendOptions(context.device, settings.checkpoint, batch_size, context.settings.run.cpu_bfloat16)
    backend = build_backend(settings.encoder, options)
    if backend.tile_side is not None:
        raise UserError(
            f"The setting prototypes: {{encoder: {settings.encoder}}} names a model that sees tiles only, in which "
            "prototypes are not looked for. Name a model that takes slices: nano, for example."
        )
    view = choose_view(settings.view, settings.axis, backend.spatial_dims, context.spacing)
    cache = context.cache.of(backend.fingerprint, view.name, settings.channel)
    encoder = CaseEncoder("prototypes", backend, view, cache, settings.channel, batch_size)
    axis = slice_axis(context.spacing) if settings.axis is None else settings.axis
    parts = PrototypeParts(
        encoder, context.labeled, settings, context.settings.block("components"), context.spacing_of, axis
    )
    return PrototypeGeneralist("prototypes", parts, context.labels)
