"""Deep supervision as nnU-Net has it: its loss is a weighted sum over the outputs of the decoder's levels.

Shapes in this file: ``B`` batch, ``*S`` the two or three spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def level_weights(count: int) -> list[float]:
    """Return nnU-Net's weights of deep-supervision levels, finest first: halved from level to level, the last is 0.

    Example:
        >>> level_weights(4)
        [0.5714285714285714, 0.2857142857142857, 0.14285714285714285, 0.0]
        >>> level_weights(1)
        [1.0]

    Source:
        ``nnUNetTrainer._build_loss``, nnU-Net 2.8.1.
    """
    if count == 1:
        return [1.0]
    halves = [0.5**level for level in range(count - 1)]
    return [half / sum(halves) for half in halves] + [0.0]


def nearest(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return ``(B, n, *S)``, float, at the resolution of a level: the nearest voxel, as nnU-Net does with annotations.

    Args:
        values: ``(B, n, *S)``, any type.
        shape: ``*S`` of the level.
    """
    return F.interpolate(values.float(), size=tuple(shape), mode="nearest-exact")
