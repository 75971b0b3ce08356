"""A case seen by a SAM: its embedding, from the cache or new.

Shapes in this file: ``N`` images, ``*S`` the two or three axes that the SAM sees. Volumes are ``(Z, Y, X)``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.embedding_cache import EmbeddingFolder
from nnunet_semisam.generalists.views import CaseGrid, View, as_tensor
from nnunet_semisam.sam.base import Embedding, SAMBackend


@dataclass(frozen=True)
class CaseEncoder:
    """Encodes cases, each once.

    Attributes:
        name: Block of settings that errors name.
        backend: The SAM.
        view: How volumes become its images.
        cache: Where embeddings are kept.
        channel: Image channel that it sees.
        batch_size: Images that are encoded at once.
    """

    name: str
    backend: SAMBackend
    view: View
    cache: EmbeddingFolder
    channel: int
    batch_size: int

    def embedding(self, case: str, image: np.ndarray, grid: CaseGrid) -> Embedding:
        """Return the embedding of all images of a case, on the CPU.

        Args:
            case: Name of the case.
            image: ``(C, Z, Y, X)``.
            grid: Its voxel grid.

        Raises:
            UserError: If the image lacks the channel.
        """
        shown = np.ascontiguousarray(self.view.images(self.shown(case, image), grid), dtype=np.float32)
        digest = f"{zlib.crc32(shown):08x}-{'x'.join(map(str, shown.shape))}"
        return self.cache.get(case, digest, lambda: self.encode(as_tensor(shown)), len(shown))

    def shown(self, case: str, image: np.ndarray) -> np.ndarray:
        """Return the channel that the SAM sees, ``(1, Z, Y, X)``.

        Raises:
            UserError: If the image lacks it.
        """
        if self.channel >= len(image):
            raise UserError(
                f"The setting {self.name}: {{channel: {self.channel}}} names a channel that case {case!r} "
                f"lacks: it has {len(image)}, counted from 0."
            )
        return image[self.channel : self.channel + 1]

    def encode(self, images: torch.Tensor) -> Embedding:
        """Encode images ``(N, 1, *S)`` in batches; features end up on the CPU."""
        parts = [self.backend.encode(batch) for batch in images.split(self.batch_size)]
        features = {name: torch.cat([part.features[name].cpu() for part in parts]) for name in parts[0].features}
        return Embedding(features, parts[0].image_shape)
