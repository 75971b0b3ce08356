"""A loader of unlabeled patches: nnU-Net's cropping, two views, no target.

Shapes in this file: ``B`` batch, ``C`` image channels, ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import blosc2
import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from threadpoolctl import threadpool_limits
from torch import Tensor

from nnunet_semisam.data.pseudo_label_source import CONFIDENCE_LEVELS, NO_LABEL, PseudoLabelRound, PseudoLabelSource
from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.data.views import UnlabeledViews
from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.array_files import UNREADABLE

LOST = "lost"
MOST_LOCATIONS = 500  # cases whose confident voxels a worker keeps, up to 100 KB each
T = TypeVar("T")


class DamagedImageError(Exception):
    """A preprocessed image cannot be read; other errors are none of the image."""


class UnlabeledLoader(nnUNetDataLoader):
    """Yields batches of unlabeled patches; there is no target to leak.

    A batch has ``weak`` and ``strong`` (and ``strong2``), with pseudo-labels ``pseudo_label``, ``pseudo_confidence``
    and ``pseudo_weight`` (one for each patch), and ``keys``, the names of the cases. A pseudo-label that cannot be read
    is left out until the next round; batches then have ``damaged``, case -> reason: the first batch of a loader reaches
    nobody.

    A case whose file turns out to be damaged leaves the pool of this worker, and another one takes its place in the
    batch. The next batch names it under ``lost``: see :class:`~nnunet_semisam.data.augmenters.UnlabeledBatches`, which
    tells the user and decides when too few are left.

    Args:
        dataset: The pool.
        batch_size: Patches in a batch.
        initial_patch_size: Patch that is cropped before the spatial transform, as in nnU-Net's training loader.
        patch_size: Patch that the network sees.
        label_manager: nnU-Net's, for the superclass.
        views: Makes the two views.
        oversample_pseudo_foreground: Share of the batch that is centred on a pseudo-label's foreground.
        source: Where pseudo-labels come from; ``None`` leaves them out of the batches.
    """

    def __init__(
        self,
        dataset: UnlabeledDataset,
        batch_size: int,
        initial_patch_size: Sequence[int],
        patch_size: Sequence[int],
        label_manager: LabelManager,
        views: UnlabeledViews,
        oversample_pseudo_foreground: float = 0.0,
        source: PseudoLabelSource | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_size,
            initial_patch_size,
            patch_size,
            label_manager,
            oversample_foreground_percent=oversample_pseudo_foreground,
            transforms=None,
        )
        self.has_ignore = False  # nnU-Net would look for annotated voxels, and there are none
        self.views = views
        self.source = source
        self.indices = list(dataset.identifiers)  # of this loader: cases that are lost leave it
        self._gone: set[str] = set()
        self._lost: dict[str, str] = {}  # case -> why, since the last batch
        self._round: PseudoLabelRound | None = None
        self._locations: dict[str, dict[int, np.ndarray]] = {}  # of that round
        self._damaged: dict[str, str] = {}  # of that round

    def set_thread_id(self, thread_id: int) -> None:
        """Begin in a background worker: with random numbers of torch of its own.

        Workers are forked, and batchgenerators gives each another seed of numpy alone: all would flip, and change the
        intensities of, their first patches alike, their second ones alike, and so on.
        """
        super().set_thread_id(thread_id)
        torch.manual_seed(int(np.random.randint(2**31)))

    def get_indices(self) -> list[str]:
        """Return the cases of a batch, drawn as the superclass does, but in a time that no pool makes longer."""
        return [self.indices[i] for i in np.random.randint(0, len(self.indices), size=self.batch_size)]

    def generate_train_batch(self) -> dict[str, Any]:
        """Return one batch; every entry but ``keys``, ``lost`` and ``damaged`` has the batch axis first.

        ``lost`` (case -> why) is there only if cases were lost; if none is left, it is all that there is.
        """
        if not self.indices:
            return {}
        keys = self.get_indices()
        current = None if self.source is None else self.source.current()
        if current != self._round:
            self._round, self._locations, self._damaged = current, {}, {}
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            samples = [self._sample_or_another(keys, j, current) for j in range(len(keys))]
        lost, self._lost = self._lost, {}
        if not self.indices:
            return {LOST: lost}
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        found = {LOST: lost, "damaged": dict(self._damaged)}
        return batch | {"keys": keys} | {name: cases for name, cases in found.items() if cases}

    def _sample_or_another(self, keys: list[str], j: int, current: PseudoLabelRound | None) -> dict[str, Tensor]:
        """Return sample ``j`` of a batch; if its case is damaged, of another case, whose name takes its place."""
        while self.indices:
            if keys[j] in self._gone:
                keys[j] = str(np.random.choice(self.indices))
            try:
                return self._sample(keys[j], self.get_do_oversample(j), current)
            except DamagedImageError as error:
                self.indices.remove(keys[j])
                self._gone.add(keys[j])
                self._lost[keys[j]] = str(error)
        return {}

    def _sample(self, case: str, wants_foreground: bool, current: PseudoLabelRound | None) -> dict[str, Tensor]:
        image = self._open(case)
        shape = image.shape[1:]
        locations = {}
        if current is not None and wants_foreground:
            locations = self._foreground(case, current)
        has_foreground = any(len(voxels) > 0 for voxels in locations.values())
        lower, upper = self.get_bbox(shape, has_foreground, locations)
        box = [[low, high] for low, high in zip(lower, upper, strict=True)]
        cropped = torch.from_numpy(self._crop(case, image, box)).float()
        inside = self._inside(cropped) if self.views.masked_channels else None
        label = confidence = None
        if self.source is not None:
            label, confidence = self._pseudo(case, box, shape, current)
        sample = self.views(
            self._drop_slice_axis(cropped),
            self._drop_slice_axis(inside),
            self._drop_slice_axis(label),
            self._drop_slice_axis(confidence),
        )
        return sample if self.source is None else sample | {"pseudo_weight": self._weight(case, current)}

    def _open(self, case: str) -> blosc2.NDArray:
        try:
            return self._data.open_image(case)
        except UserError as error:
            raise DamagedImageError(str(error)) from error

    def _crop(self, case: str, image: blosc2.NDArray, box: list[list[int]]) -> np.ndarray:
        """Return a patch of a case, ``(C, *S)``, with zeros outside of the image."""
        try:
            cropped = crop_and_pad_nd(image, box, 0)
        except UNREADABLE as error:
            raise DamagedImageError(
                f"{self._data.files[case]} is damaged inside ({printable(str(error), 300)})."
            ) from error
        try:
            self._data.check_finite(case, cropped)
        except UserError as error:
            raise DamagedImageError(str(error)) from error
        return cropped

    def _foreground(self, case: str, current: PseudoLabelRound) -> dict[int, np.ndarray]:
        """Return the confident voxels of a case; those of a few hundred are kept: reading costs as much as cropping."""
        if case not in self._locations:
            if len(self._locations) >= MOST_LOCATIONS:
                del self._locations[next(iter(self._locations))]
            self._locations[case] = self._or_leave_out(case, lambda: current.foreground_locations(case)) or {}
        return self._locations[case]

    def _or_leave_out(self, case: str, read: Callable[[], T]) -> T | None:
        """Return what ``read`` returns; a case whose pseudo-label is damaged has none until the next round."""
        if case in self._damaged:
            return None
        try:
            return read()
        except UserError as error:
            self._damaged[case] = str(error)
            return None

    def _inside(self, image: Tensor) -> Tensor:
        """Return 0 inside and -1 outside the nonzero mask, ``(1, *S)``: outside, nnU-Net set masked channels to 0."""
        empty = (image[self.views.masked_channels] == 0).all(dim=0, keepdim=True)
        return -empty.to(torch.int16)

    def _pseudo(
        self, case: str, box: list[list[int]], shape: Sequence[int], current: PseudoLabelRound | None
    ) -> tuple[Tensor, Tensor]:
        """Return label ``(1, *S)``, int16, and confidence ``(1, *S)`` in [0, 1] of a patch."""
        size = tuple(high - low for low, high in box)
        stored = None
        if current is not None:
            stored = self._or_leave_out(case, lambda: current.crop(case, box, shape))
        if stored is None:
            return torch.full((1, *size), NO_LABEL, dtype=torch.int16), torch.zeros((1, *size))
        return torch.from_numpy(stored[0]), torch.from_numpy(stored[1].astype(np.float32)) / CONFIDENCE_LEVELS

    def _weight(self, case: str, current: PseudoLabelRound | None) -> Tensor:
        """Return the weight of a case's pseudo-label, a scalar in [0, 1]."""
        weight = None if current is None else self._or_leave_out(case, lambda: current.weight(case))
        return torch.tensor(1.0 if weight is None else weight)

    def _drop_slice_axis(self, x: Tensor | None) -> Tensor | None:
        return x[:, 0] if x is not None and self.patch_size_was_2d else x
