"""Point prompts: inside where the specialist is certain, outside where a mask must not leak to.

Shapes in this file: ``M`` components, ``P`` points of a prompt, ``D`` spatial axes, ``*W`` the axes of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from nnunet_semisam.prompts.base import PROMPTS, PromptSettings, PromptStrategy
from nnunet_semisam.prompts.components import Component, to_prompts
from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING, PromptBatch


def points_of(components: Sequence[Component], axes: int, settings: PromptSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return points inside and outside each component, by default up to three each.

    Args:
        components: ``M`` components.
        axes: Number of spatial axes ``D``.
        settings: The block ``prompts``.

    Returns:
        Voxel indices ``(M, P, D)``, float32, and ``(M, P)``, int64: 1 inside, 0 outside, -1 for points that do not
        exist. Points inside come first, the best first.
    """
    positives = settings.positive_points
    points = np.zeros((len(components), positives + settings.negative_points, axes), dtype=np.float32)
    point_labels = np.full(points.shape[:2], PADDING, dtype=np.int64)
    for m, component in enumerate(components):
        corner = [side.start for side in component.window]
        inside = positive_points(component, positives)
        outside = negative_points(component, settings.negative_points, settings.outside_depth)
        for start, found, meaning in ((0, inside, FOREGROUND), (positives, outside, BACKGROUND)):
            points[m, start : start + len(found)] = np.array(found, dtype=np.float32).reshape(-1, axes) + corner
            point_labels[m, start : start + len(found)] = meaning
    return points, point_labels


def positive_points(component: Component, count: int) -> list[tuple[int, ...]]:
    """Return voxels of the component's low-uncertainty half that lie deep inside and far from each other.

    The low-uncertainty region as the source of points is SemiSAM's idea, https://arxiv.org/abs/2312.06316; the depth
    (Euclidean distance to the boundary) keeps them off the border, where a SAM cannot tell which side is meant.
    """
    certain = component.inside & (component.odds >= np.median(component.odds[component.inside]))
    return _spread(component.odds * _depth(component.inside) * certain, count, [])


def negative_points(component: Component, count: int, outside_depth: float) -> list[tuple[int, ...]]:
    """Return voxels that a mask of the component must not reach: in its hole, on another class, just outside."""
    filled = ndimage.binary_fill_holes(component.inside)
    outside = ~component.member
    doubt = 1 - component.odds
    found: list[tuple[int, ...]] = []
    for places in (outside & filled, outside & component.other & ~filled):  # a hole; a neighbour
        found += _spread(doubt * _depth(places), 1, [])
    found = found[:count]
    distance = ndimage.distance_transform_edt(outside)
    nearby = np.minimum(distance, outside_depth**2 / np.maximum(distance, 1)) * (outside & ~filled)
    return found + _spread(doubt * nearby, count - len(found), found)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Return the distance in voxels to the nearest voxel outside ``mask``, 0 outside; a window's rim is outside."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]


def _spread(score: np.ndarray, count: int, taken: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return up to ``count`` voxels of high ``score`` ``(*W)``, each also far from the earlier ones and ``taken``."""
    score, found = score.astype(np.float64), []
    grid = np.indices(score.shape)
    for place in taken:
        score = score * _distance(grid, place)
    for _ in range(count):
        place = np.unravel_index(int(score.argmax()), score.shape)
        if score[place] <= 0:
            break
        found.append(tuple(int(i) for i in place))
        score = score * _distance(grid, place)
    return found


def _distance(grid: np.ndarray, place: Sequence[int]) -> np.ndarray:
    """Return the distance of each voxel of ``grid`` ``(D, *W)`` to ``place``, as a share of the largest."""
    distance = np.sqrt(sum((axis - i) ** 2 for axis, i in zip(grid, place, strict=True)))
    return distance / max(1.0, float(distance.max()))


@PROMPTS.register("points")
class PointPrompts(PromptStrategy):
    """Points inside and outside of each component."""

    kinds = frozenset({"points"})

    def __call__(
        self, components: Sequence[Component], image_shape: Sequence[int], labels: Sequence[int]
    ) -> PromptBatch:
        """Return points; see :class:`PromptStrategy`."""
        points, point_labels = points_of(components, len(image_shape), self.settings)
        return to_prompts(components, labels, points=points, point_labels=point_labels)
