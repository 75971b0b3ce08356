"""Windows of images, drawn as patches are whose place no label decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

Window = tuple[slice, slice, slice]


def random_windows(
    dataset: Any,
    label_manager: Any,
    shape: Sequence[int],
    patch_sizes: tuple[Sequence[int], Sequence[int]],
    count: int,
) -> Iterator[Window]:
    """Yield what patches at random places show of an image, as unlabeled patches do.

    The same call yields the same windows, and leaves numpy's random numbers as they were.

    Args:
        dataset: nnU-Net's preprocessed dataset; nothing is read of it.
        label_manager: nnU-Net's.
        shape: Shape of the image, ``(Z, Y, X)``.
        patch_sizes: What nnU-Net crops before the spatial transform, and the middle of it that the network sees.
        count: How many windows.

    Yields:
        The part of each window that lies in the image; the rest of the patch is outside.
    """
    initial, final = patch_sizes
    loader = nnUNetDataLoader(dataset, 1, initial, final, label_manager)
    loader.has_ignore = False  # else patches are centred on annotated voxels
    margin = loader.need_to_pad // 2
    state = np.random.get_state()
    np.random.seed(0)
    try:
        boxes = [loader.get_bbox(shape, False, None)[0] for _ in range(count)]
    finally:
        np.random.set_state(state)
    for box in boxes:
        lower = np.asarray(box) + margin
        upper = np.minimum(lower + np.asarray(loader.final_patch_size), shape)
        yield tuple(slice(max(0, low), max(0, high)) for low, high in zip(lower, upper, strict=True))
