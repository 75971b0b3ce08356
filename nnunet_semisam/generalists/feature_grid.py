"""Between the voxels of an image and the cells of a SAM's feature map.

Both directions work axis by axis with small matrices, so that they are exact for any size, in two and three dimensions.

Shapes in this file: ``N`` images, ``P`` maps, ``c`` feature channels, ``*S`` voxels of an image along its axes, ``*G``
cells of the feature map along the same axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_semisam.sam.base import Embedding


@dataclass(frozen=True)
class FeatureGrid:
    """How the cells of a feature map lie over an image.

    Attributes:
        image_shape: ``*S``.
        cells: ``*G``.
        covered: Share of the cells along each axis that shows the image, in (0, 1]; padding follows.

    Example:
        Four voxels under two cells:

        >>> grid = FeatureGrid((4,), (2,), (1.0,))
        >>> grid.to_cells(torch.tensor([[1.0, 1.0, 1.0, 0.0]])).tolist()
        [[2.0, 1.0]]
        >>> grid.to_voxels(torch.tensor([[0.0, 1.0]])).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """

    image_shape: tuple[int, ...]
    cells: tuple[int, ...]
    covered: tuple[float, ...]

    def to_cells(self, masks: Tensor) -> Tensor:
        """Return how many voxels of masks ``(..., *S)`` lie in each cell, ``(..., *G)``; a voxel may be shared."""
        return self._along_axes(masks, _overlaps)

    def to_voxels(self, maps: Tensor) -> Tensor:
        """Return maps ``(..., *G)`` interpolated linearly at the centres of the voxels, ``(..., *S)``."""
        return self._along_axes(maps, _interpolation)

    def _along_axes(self, maps: Tensor, matrix_of: Callable[[int, int, float], Tensor]) -> Tensor:
        maps, axes = maps.float(), len(self.cells)
        for axis in range(axes):
            matrix = matrix_of(self.image_shape[axis], self.cells[axis], self.covered[axis]).to(maps.device)
            at = maps.ndim - axes + axis
            maps = torch.tensordot(maps, matrix, dims=([at], [1])).movedim(-1, at)
        return maps


def _overlaps(voxels: int, cells: int, covered: float) -> Tensor:
    """Return which share of each voxel lies in each cell, ``(cells, voxels)``; columns add up to 1."""
    borders = torch.arange(voxels + 1, dtype=torch.float64) * (covered * cells / voxels)
    cell = torch.arange(cells, dtype=torch.float64)[:, None]
    shared = torch.minimum(borders[1:], cell + 1) - torch.maximum(borders[:-1], cell)
    return (shared.clamp(min=0) / (covered * cells / voxels)).float()


def _interpolation(voxels: int, cells: int, covered: float) -> Tensor:
    """Return the weight of each cell at the centre of each voxel, ``(voxels, cells)``; rows add up to 1.

    Cells that show nothing but padding have no weight.
    """
    last = math.ceil(covered * cells - 1e-9) - 1
    centre = (torch.arange(voxels, dtype=torch.float64) + 0.5) * (covered * cells / voxels) - 0.5
    centre = centre.clamp(0, last)
    cell = torch.arange(cells, dtype=torch.float64)
    return (1 - (centre[:, None] - cell).abs()).clamp(min=0).float()


def dense_features(embedding: Embedding) -> Tensor:
    """Return the deepest feature map of an embedding, ``(N, c, *G)``: that with the fewest cells.

    SAM 2 and its like keep finer maps beside it, which show edges rather than what is there. Maps that do not lie over
    the image's axes are passed over.

    Raises:
        ValueError: If there is none.
    """
    axes = len(embedding.image_shape)
    maps = [features for features in embedding.features.values() if features.ndim == axes + 2]
    if not maps:
        raise ValueError(f"The embedding of {axes}D images holds no feature map; got {list(embedding.features)}.")
    return min(maps, key=lambda features: math.prod(features.shape[2:]))


def grid_of(embedding: Embedding, covered: Sequence[float]) -> FeatureGrid:
    """Return how the cells of :func:`dense_features` lie over the images; ``covered`` as the backend says."""
    cells = tuple(dense_features(embedding).shape[2:])
    return FeatureGrid(tuple(embedding.image_shape), cells, tuple(covered))
