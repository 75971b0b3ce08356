"""A 3D SAM that sees tiles as a generalist: an object is one object, in however many tiles it is prompted.

Shapes in this file: ``C`` image channels, ``F`` foreground classes or regions, ``T`` tiles, ``D`` the side of a tile.
Volumes of a case are ``(Z, Y, X)``, those of its canonical grid ``(R, A, S)``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from nnunet_semisam.generalists.base import CaseInput, CasePrediction, CaseResult, PromptCounts, stopwatch
from nnunet_semisam.generalists.canonical_grid import CanonicalGrid, Window
from nnunet_semisam.generalists.prediction import (
    decode_in_steps,
    is_rejected,
    merge_window,
    rejected_window,
    without_doubtful,
)
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist, SAMParts
from nnunet_semisam.generalists.tiles import Corner, Tiles
from nnunet_semisam.generalists.views import as_tensor, require_spacing
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts.components import Component, find_components
from nnunet_semisam.sam.base import Embedding, PromptBatch

NEAREST = 1e-6  # probabilities nearer to 0 and 1 count as this near: a logit must stay finite


class ObjectMask:
    """What tiles say of one object, in the box around them.

    Args:
        corners: First voxel of each tile, at least one.
        side: ``D``.
        shape: Voxels of the canonical volume along R, A, S, where the box ends.
    """

    def __init__(self, corners: Sequence[Corner], side: int, shape: Sequence[int]) -> None:
        self.side = side
        self.box = tuple(
            slice(max(0, min(axis)), min(size, max(axis) + side))
            for axis, size in zip(zip(*corners, strict=True), shape, strict=True)
        )
        empty = np.zeros((5, *(side.stop - side.start for side in self.box)), dtype=np.float32)
        self.tiles, self.logits, self.sums, self.squares, self.reliabilities = empty

    def add(self, corner: Corner, probs: np.ndarray, reliability: np.ndarray) -> None:
        """Add what a tile says, ``(D, D, D)`` each, in [0, 1]."""
        there = tuple(
            slice(max(part.start, first) - part.start, min(part.stop, first + self.side) - part.start)
            for part, first in zip(self.box, corner, strict=True)
        )
        mine = tuple(
            slice(piece.start + part.start - first, piece.stop + part.start - first)
            for piece, part, first in zip(there, self.box, corner, strict=True)
        )
        near = np.clip(probs[mine], NEAREST, 1 - NEAREST)
        self.tiles[there] += 1
        self.logits[there] += np.log(near / (1 - near))
        self.sums[there] += probs[mine]
        self.squares[there] += probs[mine] ** 2
        self.reliabilities[there] += reliability[mine]

    @property
    def area(self) -> int:
        """Return the voxels of the mask in the whole box."""
        return int((self.logits > 0).sum())

    def shown_part(self, window: Window) -> Window:
        """Return the part of a window of the volume that lies in the box."""
        return tuple(
            slice(max(side.start, edge.start), min(side.stop, edge.stop))
            for side, edge in zip(window, self.box, strict=True)
        )

    def within(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return probability, reliability and whether any tile shows it for each voxel of a part of the box."""
        part = tuple(
            slice(side.start - edge.start, side.stop - edge.start) for side, edge in zip(window, self.box, strict=True)
        )
        count = np.maximum(self.tiles[part], 1)
        seen = self.tiles[part] > 0
        variance = self.squares[part] / count - (self.sums[part] / count) ** 2
        reliability = (1 - 4 * np.clip(variance, 0, 0.25)) * self.reliabilities[part] / count
        return np.where(seen, 1 / (1 + np.exp(-self.logits[part] / count)), 0), reliability, seen


class TiledSAMGeneralist(SAMGeneralist):
    """Prompts a 3D SAM in tiles of the canonical grid.

    Components are found in the whole volume. One that fits into a tile is prompted in the tile where it lies most
    central; a larger one in all tiles that show enough of it. Where those overlap, their logits are averaged: a tile
    that sees only an end of the object is unsure there, and so says little, while a leak of one tile is outvoted by
    the others (the largest logit would keep each leak). How alike the tiles are is part of the reliability. The mask is
    accepted or rejected as a whole, and comes back to the case's own grid.

    Memory is bounded: one canonical volume for the image and one per foreground channel, an embedding per tile that is
    prompted, and the masks of one object at a time.

    Args:
        name: Name of the model, as its block of settings is called.
        parts: What it is made of; the view is :class:`~nnunet_semisam.generalists.tiles.Tiles`.
        labels: What the network's output channels mean.

    Raises:
        UserError: If the SAM does not understand the kinds of prompts that the strategy makes.
    """

    def __init__(self, name: str, parts: SAMParts, labels: Labels) -> None:
        super().__init__(name, parts, labels)
        self.tiles: Tiles = parts.view

    @torch.no_grad()
    def predict_case(self, case: CaseInput) -> CaseResult:
        """Predict one case; only tiles in which something is prompted are encoded.

        Raises:
            UserError: If the image lacks the channel, or the case's spacing is not known.
        """
        require_spacing(self.tiles, case.name, case.spacing)
        image = self._encoder().shown(case.name, case.image)
        grid = self.tiles.grid(case.image.shape[1:], case.spacing, case.direction)
        corners = self.tiles.corners(grid.shape)
        seconds = {"encode": 0.0, "decode": 0.0}
        prediction = CasePrediction.empty((self.labels.channels, *case.image.shape[1:]))
        counts = np.zeros((3, self.labels.channels), dtype=int)
        with stopwatch(seconds, "decode"):
            components = self._components_on(grid, case.specialist)
            enough = self.parts.components.min_voxels(3)
            holding = [self.tiles.holding(component, corners, enough) for component in components]
        if not components:
            return CaseResult(prediction, PromptCounts.none(self.labels.channels), seconds)
        with stopwatch(seconds, "encode"):
            needed = sorted({number for numbers in holding for number in numbers})
            embeddings, cached = self._embeddings(case.name, grid.to_canonical(image), corners, needed)
        with stopwatch(seconds, "decode"):
            for component, numbers in zip(components, holding, strict=True):
                mask = self._mask(grid, component, {number: corners[number] for number in numbers}, embeddings)
                counts[:, component.channel] += self._write(prediction, grid, component, mask)
        prediction = without_doubtful(prediction, self.parts.rejection.rectify_below)
        found = PromptCounts(*(tuple(int(number) for number in row) for row in counts))
        return CaseResult(prediction, found, seconds, cached, components)

    def prompts_in_slice(self, result: CaseResult, index: int) -> PromptBatch:
        """Return no prompts: they are voxels of tiles, which pictures of the case do not show."""
        return super(SAMGeneralist, self).prompts_in_slice(result, index)

    def _components_on(self, grid: CanonicalGrid, specialist: np.ndarray) -> Sequence[Component]:
        """Return the components to prompt with, in voxels of the canonical grid."""
        probs = as_tensor(grid.to_canonical(self.labels.foreground(specialist)))[None]
        return self.parts.component_filter(find_components(probs, self.labels.has_regions, self.parts.components))

    def _embeddings(
        self, case: str, image: np.ndarray, corners: Sequence[Corner], numbers: Sequence[int]
    ) -> tuple[dict[int, Embedding], bool]:
        """Return the embeddings of some tiles of ``(1, R, A, S)`` by number, and whether all of them were cached."""
        encoder, hits, found = self._encoder(), self.parts.cache.hits, {}
        for number in numbers:
            tile = as_tensor(self.tiles.cut(image, corners[number]))[None]
            digest = f"{zlib.crc32(tile.numpy()):08x}-{'x'.join(map(str, image.shape))}"
            name = f"{case}-tile{number:04d}"
            found[number] = self.parts.cache.get(name, digest, lambda: encoder.encode(tile), 1)  # noqa: B023  at once
        return found, self.parts.cache.hits - hits == len(numbers)

    def _mask(
        self,
        grid: CanonicalGrid,
        component: Component,
        corners: Mapping[int, Corner],
        embeddings: Mapping[int, Embedding],
    ) -> ObjectMask:
        """Prompt a component in some tiles, and return what they say together."""
        mask = ObjectMask(list(corners.values()), self.tiles.side, grid.shape)
        for number, corner in corners.items():
            embedding = embeddings[number]
            prompting = self._prompting(embedding)
            mine = self.tiles.in_tile(component, corner, 0)
            prompts = prompting.strategy([mine], embedding.image_shape, prompting.labels)
            probs, reliability = decode_in_steps(self.parts.backend, embedding, prompts, prompting.refinement)
            mask.add(corner, probs[0].numpy(), reliability[0].numpy())
        return mask

    def _write(
        self, prediction: CasePrediction, grid: CanonicalGrid, component: Component, mask: ObjectMask
    ) -> tuple[int, bool, bool]:
        """Write an object's mask, or its rejection, and return its counts: prompted, rejected, empty."""
        rejected = is_rejected(mask.area, component.voxels, self.parts.rejection.factor)
        window = component.window if rejected else mask.shown_part(component.window)
        place = (component.channel, *grid.case_window(window))
        if rejected:
            around = rejected_window(component, self.parts.rejection.margin)
            prediction.rejected[place] |= grid.to_case(around, window) > 0.5
        else:
            probs, reliability, seen = (grid.to_case(values, window) for values in mask.within(window))
            merge_window(prediction, place, probs, reliability, seen > 0.5)
        return 1, rejected, mask.area == 0
