"""View ``tiles``: cubes of a fixed number of voxels of the canonical grid, for 3D SAMs that take nothing else.

Components are found in the whole volume, then shown to the SAM in one tile or in several. Shapes in this file: ``C``
channels, ``D`` the side of a tile in voxels; ``(R, A, S)`` as in :mod:`nnunet_semisam.generalists.canonical_grid`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

from nnunet_semisam.data.geometry import UPRIGHT, Matrix
from nnunet_semisam.generalists.canonical_grid import CanonicalGrid
from nnunet_semisam.prompts.components import Component

Corner = tuple[int, int, int]


@dataclass(frozen=True)
class Tiles:
    """How volumes are cut into tiles.

    Attributes:
        side: Voxels of a tile along each axis.
        spacing: Size of its voxels in mm.
        step: Distance of two tiles, as a share of the side.
    """

    side: int
    spacing: float
    step: float
    spatial_dims: ClassVar[int] = 3
    needs_spacing: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Return the name, which holds all that changes what a tile shows."""
        return f"tiles{self.side}-{self.spacing:g}mm-{self.step:g}"

    def grid(self, shape: Sequence[int], spacing: Sequence[float], direction: Matrix | None) -> CanonicalGrid:
        """Return the canonical grid of a case; an unknown direction counts as that of an upright image."""
        return CanonicalGrid(tuple(shape), tuple(spacing), direction or UPRIGHT, self.spacing)

    def corners(self, shape: Sequence[int]) -> list[Corner]:
        """Return the first voxel of each tile of a canonical volume ``(R, A, S)``; negative where tiles are larger.

        Example:
            >>> Tiles(side=8, spacing=1.5, step=0.5).corners((8, 6, 16))
            [(0, -1, 0), (0, -1, 4), (0, -1, 8)]
        """
        covered = tuple(max(size, self.side) for size in shape)
        steps = compute_steps_for_sliding_window(covered, (self.side,) * 3, self.step)
        padding = [max(0, self.side - size) // 2 for size in shape]  # the volume lies in the middle
        return [
            (r - padding[0], a - padding[1], s - padding[2])
            for r, a, s in itertools.product(*([int(start) for start in axis] for axis in steps))
        ]

    def cut(self, volume: np.ndarray, corner: Corner) -> np.ndarray:
        """Return a tile ``(C, D, D, D)`` of a volume ``(C, R, A, S)``; outside of it is each channel's least value."""
        least = volume.min(axis=(1, 2, 3), keepdims=True)
        tile = np.broadcast_to(least, (len(volume), *(self.side,) * 3)).copy()
        inside = [slice(max(0, c), min(size, c + self.side)) for c, size in zip(corner, volume.shape[1:], strict=True)]
        there = [slice(part.start - c, part.stop - c) for part, c in zip(inside, corner, strict=True)]
        tile[(slice(None), *there)] = volume[(slice(None), *inside)]
        return tile

    def holding(self, component: Component, corners: Sequence[Corner], min_voxels: int) -> list[int]:
        """Return the numbers of the tiles in which a component is prompted.

        A component whose window fits into a tile is prompted in one: that in which it lies most central. A larger one
        is prompted in every tile that shows enough of it; if none does, in that which shows most.

        Args:
            component: Of the whole canonical volume.
            corners: Of all tiles.
            min_voxels: What is enough.
        """
        margins = [
            min(
                min(side.start - first, first + self.side - side.stop)
                for side, first in zip(component.window, c, strict=True)
            )
            for c in corners
        ]
        best = int(np.argmax(margins))
        if margins[best] >= 0:
            return [best]
        shown = np.array([int(component.inside[self.window_part(component, c)].sum()) for c in corners])
        enough = [int(number) for number in np.flatnonzero(shown >= min_voxels)]
        return enough or [int(shown.argmax())]

    def window_part(self, component: Component, corner: Corner) -> tuple[slice, ...]:
        """Return which voxels of a component's window a tile shows; empty where it shows none."""
        parts = []
        for side, first in zip(component.window, corner, strict=True):
            start = max(side.start, first)
            stop = max(start, min(side.stop, first + self.side))
            parts.append(slice(start - side.start, stop - side.start))
        return tuple(parts)

    def in_tile(self, component: Component, corner: Corner, number: int) -> Component:
        """Return the part of a component that a tile shows, in the tile's own voxels.

        Args:
            component: Of the whole canonical volume.
            corner: Of the tile, which shows at least one voxel of it.
            number: Which image the tile is.
        """
        part = self.window_part(component, corner)
        window = tuple(
            slice(side.start + piece.start - first, side.start + piece.stop - first)
            for side, piece, first in zip(component.window, part, corner, strict=True)
        )
        inside = component.inside[part]
        found = np.argwhere(inside)
        start = np.array([side.start for side in window])
        box = np.stack([start + found.min(axis=0), start + found.max(axis=0) + 1], axis=1)
        arrays = {name: getattr(component, name)[part] for name in ("member", "other", "odds")}
        return replace(component, image=number, box=box, window=window, inside=inside, **arrays)
