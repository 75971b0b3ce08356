"""Point prompts: inside where the network is sure, outside where a mask must not leak to.

Shapes in this file: ``M`` components, ``P`` points of a prompt, ``D`` spatial axes, ``*W`` the axes of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from torch import Tensor

from nnunet_semisam.prompts.base import PROMPTS
from nnunet_semisam.prompts.components import Component, find_components, to_prompts
from nnunet_semisam.sam.base import BACKGROUND, FOREGROUND, PADDING, PromptBatch

POSITIVES = 3  # several points beat one: MuDuo finds 46.9 against 45.2 Dice for 3 against 1
NEGATIVES = 3
OUTSIDE_DEPTH = 5.0  # voxels: the best distance of an outside point; nearer the side is unclear, further it says less


def points_of(components: Sequence[Component], axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return up to three points inside and three outside each component.

    Args:
        components: ``M`` components.
        axes: Number of spatial axes ``D``.

    Returns:
        Voxel indices ``(M, P, D)``, float32, and ``(M, P)``, int64: 1 inside, 0 outside, -1 for points that do not
        exist. Points inside come first, the best first.
    """
    points = np.zeros((len(components), POSITIVES + NEGATIVES, axes), dtype=np.float32)
    point_labels = np.full(points.shape[:2], PADDING, dtype=np.int64)
    for m, component in enumerate(components):
        corner = [side.start for side in component.window]
        inside, outside = positive_points(component), negative_points(component)
        for start, found, meaning in ((0, inside, FOREGROUND), (POSITIVES, outside, BACKGROUND)):
            points[m, start : start + len(found)] = np.array(found, dtype=np.float32).reshape(-1, axes) + corner
            point_labels[m, start : start + len(found)] = meaning
    return points, point_labels


def positive_points(component: Component) -> list[tuple[int, ...]]:
    """Return voxels of the component's low-uncertainty half that lie deep inside and far from each other.

    The low-uncertainty region as the source of points is SemiSAM's idea, https://arxiv.org/abs/2312.06316; the depth
    (Euclidean distance to the boundary) keeps them off the border, where a SAM cannot tell which side is meant.
    """
    certain = component.inside & (component.odds >= np.median(component.odds[component.inside]))
    return _spread(component.odds * _depth(component.inside) * certain, POSITIVES, [])


def negative_points(component: Component) -> list[tuple[int, ...]]:
    """Return voxels that a mask of the component must not reach: in its hole, on another class, just outside."""
    filled = ndimage.binary_fill_holes(component.inside)
    outside = ~component.member
    doubt = 1 - component.odds
    found: list[tuple[int, ...]] = []
    for places in (outside & filled, outside & component.other & ~filled):  # a hole; a neighbour
        found += _spread(doubt * _depth(places), 1, [])
    distance = ndimage.distance_transform_edt(outside)
    nearby = np.minimum(distance, OUTSIDE_DEPTH**2 / np.maximum(distance, 1)) * (outside & ~filled)
    return found + _spread(doubt * nearby, NEGATIVES - len(found), found)


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
def points(probs: Tensor, labels: list[int], overlapping: bool | None = None) -> PromptBatch:
    """Ask with points; see :class:`nnunet_semisam.prompts.base.PromptStrategy`."""
    components = find_components(probs, overlapping)
    places, point_labels = points_of(components, probs.ndim - 2)
    return to_prompts(components, probs, labels, points=places, point_labels=point_labels)
