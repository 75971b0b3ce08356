"""A loader of unlabeled patches: nnU-Net's cropping, two views, no target.

Shapes in this file: ``B`` batch, ``C`` image channels, ``*S`` the two or three spatial axes of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from threadpoolctl import threadpool_limits
from torch import Tensor

from nnunet_semisam.data.unlabeled_dataset import UnlabeledDataset
from nnunet_semisam.data.views import UnlabeledViews

NO_OPINION = -1


class PseudoLabelSource(Protocol):
    """What the loader asks of the store of pseudo-labels; see :mod:`nnunet_semisam.pseudo_labels.store`."""

    def current(self) -> Any | None:
        """Return the round to read, or ``None`` before the first.

        It has ``open``, ``foreground_locations`` and ``confidence_levels``.
        """


class UnlabeledLoader(nnUNetDataLoader):
    """Yields ``{"weak", "strong"[, "pseudo_label", "pseudo_confidence"], "keys"}``; there is no target to leak.

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
        self._opinion: Any | None = None
        self._locations: dict[str, dict[int, np.ndarray]] = {}  # of that opinion; up to 100 KB a case

    def generate_train_batch(self) -> dict[str, Any]:
        """Return one batch; every entry but ``keys`` has the batch axis first."""
        keys = self.get_indices()
        opinion = None if self.source is None else self.source.current()
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            samples = [self._sample(case, self.get_do_oversample(j), opinion) for j, case in enumerate(keys)]
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        return batch | {"keys": list(keys)}

    def _sample(self, case: str, wants_foreground: bool, opinion: Any | None) -> dict[str, Tensor]:
        image = self._data.open_image(case)
        shape = image.shape[1:]
        locations = self._foreground(case, opinion) if opinion is not None and wants_foreground else {}
        wants_foreground = any(len(voxels) > 0 for voxels in locations.values())
        lower, upper = self.get_bbox(shape, wants_foreground, locations)
        box = [[low, high] for low, high in zip(lower, upper, strict=True)]
        cropped = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float()
        inside = self._inside(cropped) if self.views.masked_channels else None
        label = trust = None
        if self.source is not None:
            label, trust = self._pseudo(case, box, opinion)
        return self.views(*(x if x is None else self._drop_slice_axis(x) for x in (cropped, inside, label, trust)))

    def _foreground(self, case: str, opinion: Any) -> dict[int, np.ndarray]:
        """Return the trusted voxels of a case, read once a round: reading them costs as much as cropping a patch."""
        if opinion != self._opinion:
            self._opinion, self._locations = opinion, {}
        if case not in self._locations:
            self._locations[case] = opinion.foreground_locations(case)
        return self._locations[case]

    def _inside(self, image: Tensor) -> Tensor:
        """Return 0 inside and -1 outside the nonzero mask, ``(1, *S)``: outside, nnU-Net set masked channels to 0."""
        empty = (image[self.views.masked_channels] == 0).all(dim=0, keepdim=True)
        return -empty.to(torch.int16)

    def _pseudo(self, case: str, box: list[list[int]], opinion: Any | None) -> tuple[Tensor, Tensor]:
        size = tuple(high - low for low, high in box)
        stored = None if opinion is None else opinion.open(case)
        if stored is None:
            return torch.full((1, *size), NO_OPINION, dtype=torch.int16), torch.zeros((1, *size))
        label, trust = (crop_and_pad_nd(x, box, pad) for x, pad in zip(stored, (NO_OPINION, 0), strict=True))
        return torch.from_numpy(label.astype(np.int16)), torch.from_numpy(
            trust.astype(np.float32)
        ) / opinion.confidence_levels

    def _drop_slice_axis(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.patch_size_was_2d else x
