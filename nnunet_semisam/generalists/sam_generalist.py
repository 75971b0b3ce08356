"""SAM as a witness: everything between a case's image with the network's opinion and SAM's opinion on it.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes or regions,
``N`` slices (or 1 volume), ``*S`` the two or three axes that the SAM sees. Volumes are ``(Z, Y, X)`` in the axis order
of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.prediction import AskCounts, SAMOpinion, ask
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend
from nnunet_semisam.settings.config import SemiSAMConfig

DECODED_VOXELS = 2**26  # of the masks decoded at once: 256 MiB in float32
KIND_OF_FIELD = {"boxes": "box", "points": "points", "mask_logits": "mask"}


@dataclass(frozen=True)
class CaseAnswer:
    """What SAM said about one case.

    Attributes:
        opinion: Arrays ``(F, Z, Y, X)``.
        counts: How the asking went.
        seconds: Time of ``encode`` and ``decode`` (prompts included).
        cache_hit: Whether the embedding was cached; ``None`` if none was needed.
    """

    opinion: SAMOpinion
    counts: AskCounts
    seconds: dict[str, float]
    cache_hit: bool | None


class SAMWitness:
    """Asks a SAM about all components of a case.

    Args:
        config: The settings of the run.
        backend: The SAM.
        cache: Where embeddings are kept.
        layout: Which output channel of the network means what.
        axis: Axis of a volume (0, 1 or 2) along which a 2D SAM sees slices.

    Raises:
        UserError: If the prompt strategy asks in a way that the SAM does not understand.
    """

    def __init__(
        self, config: SemiSAMConfig, backend: SAMBackend, cache: EmbeddingCache, layout: Labels, axis: int
    ) -> None:
        self.config, self.backend, self.cache, self.layout, self.axis = config, backend, cache, layout, axis
        self.strategy = PROMPTS.get(config.sam_prompt)
        self._check_kinds()

    def _check_kinds(self) -> None:
        """Ask about nothing, to see which kinds of prompt the strategy uses."""
        nothing = self.strategy(torch.zeros(1, 1, *[8] * self.backend.spatial_dims), [1])
        used = {kind for field, kind in KIND_OF_FIELD.items() if getattr(nothing, field) is not None}
        if not used <= self.backend.prompt_kinds:
            raise UserError(
                f"The prompt strategy {self.config.sam_prompt!r} asks with {', '.join(sorted(used))}, but the SAM "
                f"{self.config.sam_model!r} understands {', '.join(sorted(self.backend.prompt_kinds))} only. "
                f"Set sam_prompt to another of: {', '.join(PROMPTS.names())}."
            )

    def ask(self, case: str, image: np.ndarray, network: np.ndarray) -> CaseAnswer:
        """Return SAM's opinion on one case.

        Slices are asked about in groups of ``sam_batch_size``: mask prompts of all slices could fill the memory.

        Args:
            case: Name of the case, for the cache.
            image: ``(C, Z, Y, X)``, as nnU-Net preprocessed it.
            network: Whose components SAM is asked about: probabilities ``(K, Z, Y, X)``.
        """
        seconds, hits, embedding = {"encode": 0.0, "decode": 0.0}, self.cache.hits, None
        probs = self._probs(network)
        opinion, counts = SAMOpinion.silence(tuple(probs.shape)), AskCounts.none(self.layout.channels)
        for start in range(0, len(probs), self.config.sam_batch_size):
            group = slice(start, start + self.config.sam_batch_size)
            with stopwatch(seconds, "decode"):
                components = find_components(probs[group], self.layout.has_regions)
            if not components:
                continue
            with stopwatch(seconds, "encode"):
                embedding = embedding or self._embedding(case, image)
            with stopwatch(seconds, "decode"):
                prompts = self.strategy(probs[group], self.layout.prompt_labels, self.layout.has_regions)
                few = Embedding({name: f[group] for name, f in embedding.features.items()}, embedding.image_shape)
                part, count = ask(self.backend, few, prompts, components, self.layout.channels, self._chunk(few))
            for name, array in vars(part).items():
                getattr(opinion, name)[group] = array
            counts = counts + count
        opinion = SAMOpinion(**{name: self._from_sam(array) for name, array in vars(opinion).items()})
        return CaseAnswer(opinion, counts, seconds, None if embedding is None else self.cache.hits > hits)

    def _chunk(self, embedding: Embedding) -> int:
        """Return how many prompts to decode at once: four per encoded slice, fewer where masks are very large."""
        return max(1, min(4 * self.config.sam_batch_size, DECODED_VOXELS // math.prod(embedding.image_shape)))

    def questions(self, network: np.ndarray, index: int) -> PromptBatch:
        """Return the prompts about slice ``index`` (or about the volume), for pictures."""
        probs = self._probs(network)
        probs = probs[index : index + 1] if self.backend.spatial_dims == 2 else probs
        return self.strategy(probs, self.layout.prompt_labels, self.layout.has_regions)

    def _probs(self, network: np.ndarray) -> Tensor:
        """Return the foreground channels of the network's output as SAM sees them, ``(N, F, *S)``."""
        return torch.from_numpy(np.ascontiguousarray(self._to_sam(self.layout.foreground(network))))

    def _embedding(self, case: str, image: np.ndarray) -> Embedding:
        """Return the embedding of all slices of a case (or of its volume)."""
        channel = self.config.sam_channel
        if channel >= len(image):
            raise UserError(f"sam_channel is {channel}, but case {case!r} has {len(image)} channels, counted from 0.")
        shown = np.ascontiguousarray(self._to_sam(image[channel : channel + 1]), dtype=np.float32)
        digest = f"{zlib.crc32(shown):08x}-{'x'.join(map(str, shown.shape))}"
        return self.cache.get(case, digest, lambda: self._encode(torch.from_numpy(shown)))

    def _encode(self, images: Tensor) -> Embedding:
        """Encode images ``(N, 1, *S)`` in batches; features end up on the CPU."""
        parts = [self.backend.encode(batch) for batch in images.split(self.config.sam_batch_size)]
        features = {name: torch.cat([part.features[name].cpu() for part in parts]) for name in parts[0].features}
        return Embedding(features, parts[0].image_shape)

    def _to_sam(self, volume: np.ndarray) -> np.ndarray:
        """Turn ``(channels, Z, Y, X)`` into what the SAM sees, ``(N, channels, *S)``."""
        return volume[None] if self.backend.spatial_dims == 3 else np.moveaxis(volume, self.axis + 1, 0)

    def _from_sam(self, images: np.ndarray) -> np.ndarray:
        """Undo :meth:`_to_sam`."""
        return images[0] if self.backend.spatial_dims == 3 else np.moveaxis(images, 0, self.axis + 1)


def slice_axis(wanted: int | None, spacing: Sequence[float]) -> int:
    """Return the axis (0, 1 or 2) along which a 2D SAM sees slices.

    Args:
        wanted: The setting ``sam_axis``; ``None`` takes the axis of the largest spacing, the first of equals.
        spacing: Voxel size in mm; two numbers are those of a 2D configuration, whose slices lie along axis 0.

    Raises:
        UserError: If the axis does not exist.
    """
    if wanted is not None and wanted not in (0, 1, 2):
        raise UserError(
            f"The setting sam_axis must be 0, 1 or 2, or null for the axis of largest spacing, got {wanted}."
        )
    if wanted is not None:
        return wanted
    return int(np.argmax(spacing)) if len(spacing) == 3 else 0


@contextmanager
def stopwatch(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent in a ``with`` block to ``seconds[name]``."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
