"""Point prompts that one decoder's prediction gives another: a central voxel of each class, and a random one.

Shapes in this file: ``N`` images, ``F`` classes, ``H, W`` of the images.
"""

from __future__ import annotations

import cc3d
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Points = tuple[Tensor, Tensor]  # voxel indices (N, F, 2), float, and where a class has one, (N, F), bool


def central_and_random_points(masks: Tensor) -> tuple[Points, Points]:
    """Return, for the largest component of each class in each image, its deepest voxel and a random one.

    Args:
        masks: ``(N, F, H, W)``, bool.

    Source:
        CPC-SAM, https://arxiv.org/abs/2407.05416, section 2.3.

    Example:
        >>> masks = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
        >>> masks[..., 2:7, 1:6] = True
        >>> (central, there), _ = central_and_random_points(masks)
        >>> central.tolist(), there.tolist()
        ([[[4.0, 3.0]]], [[True]])
    """
    shape = (*masks.shape[:2], 2)
    central, drawn, there = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
    for index, mask in np.ndenumerate(_objects(masks)):
        if mask is None:
            continue
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        central[index] = np.unravel_index(int(depth.argmax()), mask.shape)
        voxels = np.argwhere(mask)
        drawn[index] = voxels[int(torch.randint(len(voxels), (1,)))]
        there[index] = True
    present = torch.from_numpy(there).to(masks.device)
    return (torch.from_numpy(central).to(masks.device), present), (torch.from_numpy(drawn).to(masks.device), present)


def _objects(masks: Tensor) -> np.ndarray:
    """Return the largest component of each mask, or ``None``, as an array of objects ``(N, F)``."""
    found = np.empty(masks.shape[:2], dtype=object)
    arrays = masks.detach().cpu().numpy()
    for index in np.ndindex(found.shape):
        numbered = cc3d.connected_components(arrays[index], connectivity=8)
        sizes = np.bincount(numbered.ravel())[1:]
        found[index] = numbered == 1 + int(sizes.argmax()) if len(sizes) else None
    return found
