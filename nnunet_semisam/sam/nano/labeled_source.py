"""Labeled data sets of the user's own as a source of training images for the nano SAM.

Shapes in this file: ``H, W`` of a slice, ``S`` side of the SAM's input in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.sam.frame import stretch_percentiles
from nnunet_semisam.sam.labeled_cases import class_names, labeled_cases, to_slices
from nnunet_semisam.sam.nano.synthetic import SMALLEST_AREA
from nnunet_semisam.sam.nano.synthetic_batches import synthetic_source
from nnunet_semisam.sam.nano.synthetic_shapes import smooth_field
from nnunet_semisam.sam.preprocessing import NANO


class LabeledSource:
    """Slices of labeled cases, randomly zoomed and recoloured, in turn with procedural images.

    All slices with a label are held in memory, one byte per voxel and channel.

    Args:
        folders: Raw folders of labeled nnU-Net data sets.
        synthetic_share: Share of procedural images among the training images, in [0, 1].
        check_file: See :func:`~nnunet_semisam.sam.labeled_cases.labeled_cases`.

    Raises:
        UserError: If no slice of the data sets holds a label.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        synthetic_share: float = 0.5,
        check_file: Callable[[Path], object] = lambda path: None,
    ) -> None:
        self.synthetic_share = synthetic_share
        self.slices: list[tuple[NDArray[np.uint8], NDArray[np.integer]]] = []
        names = []
        for folder in folders:
            names.append(str(folder))
            classes = list(class_names(folder))
            for case in labeled_cases(folder, check_file=check_file):
                self._add(*to_slices(case), classes)
        if not self.slices:
            raise UserError(
                f"No slice with a label was found in {', '.join(names) or 'nothing'}. Name at least one raw data set "
                "whose labelsTr holds more than background."
            )

    def _add(self, images: NDArray[np.float32], labels: NDArray[np.integer], classes: list[int]) -> None:
        known = np.where(np.isin(labels, classes), labels, 0)
        for image, label in zip(images, known, strict=True):
            if (label > 0).sum() < SMALLEST_AREA:
                continue
            for grey in stretch_percentiles(torch.from_numpy(np.ascontiguousarray(image)), NANO).numpy():
                self.slices.append((grey.round().astype(np.uint8), label.astype(np.int16)))

    def __call__(
        self, rng: np.random.Generator, size: int, count: int, easy: float, frame: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return an image, masks of things in it and its regions; see ``synthetic_batches.Source``."""
        if rng.random() < self.synthetic_share:
            return synthetic_source(rng, size, count, easy, frame)
        for _ in range(20):
            grey, label = self.slices[int(rng.integers(len(self.slices)))]
            image, regions = zoomed(rng, grey, label, size, frame)
            masks = random_things(rng, regions.numpy(), count)
            if masks is not None:
                return torch.from_numpy(recoloured(rng, image.numpy())), torch.from_numpy(masks), regions
        return synthetic_source(rng, size, count, easy, frame)  # this data set's things vanish at the size of the input


def zoomed(
    rng: np.random.Generator, grey: NDArray[np.uint8], label: NDArray[np.integer], size: int, frame: int
) -> tuple[Tensor, Tensor]:
    """Return a random crop of a slice, resized so that its longest side is at most ``size``: image and regions."""
    share = rng.uniform(0.6, 1.0) * size / frame
    height, width = (max(8, round(s * share)) for s in grey.shape)
    top, left = (int(rng.integers(0, max(1, s - c + 1))) for s, c in zip(grey.shape, (height, width), strict=True))
    window = (slice(top, top + height), slice(left, left + width))
    scale = size / max(grey[window].shape) * rng.uniform(0.7, 1.0)
    shape = [max(8, min(size, round(s * scale))) for s in grey[window].shape]
    image = torch.from_numpy(grey[window].astype(np.float32))[None, None]
    regions = torch.from_numpy(label[window].astype(np.float32))[None, None]
    image = F.interpolate(image, shape, mode="bilinear", antialias=True)[0, 0]
    return image / 255, F.interpolate(regions, shape, mode="nearest-exact")[0, 0].round().to(torch.int16)


def random_things(rng: np.random.Generator, regions: NDArray[np.integer], count: int) -> NDArray[np.bool_] | None:
    """Return ``count`` masks of classes or of single components of classes, or ``None`` if nothing is large enough."""
    things = []
    for value in np.unique(regions[regions > 0]):
        whole = regions == value
        components, number = ndimage.label(whole)
        things.append(whole)
        things += [components == i for i in range(1, number + 1)] if number > 1 else []
    things = [thing for thing in things if thing.sum() >= SMALLEST_AREA]
    if not things:
        return None
    order = [int(i) for i in rng.permutation(len(things))]
    return np.stack([things[order[i % len(order)]] for i in range(count)])


def recoloured(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image in [0, 1] with random gamma, shading and noise, sometimes inverted."""
    image = image ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.2:
        image = 1 - image
    shading = smooth_field(rng, max(image.shape), 2)[0][: image.shape[0], : image.shape[1]]
    image = image * np.exp(np.float32(rng.uniform(0, 0.25)) * shading)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return (image + np.float32(rng.exponential(0.015)) * noise).astype(np.float32)
