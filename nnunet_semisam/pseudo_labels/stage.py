"""The SAM stage: between epochs, turn the network's opinion on unlabeled cases into stored pseudo-labels.

Shapes in this file: ``C`` image channels, ``K`` output channels of the network, ``F`` foreground classes or regions,
``N`` slices (or 1 volume), ``*S`` the two or three axes that the SAM sees. Volumes are ``(Z, Y, X)`` in the axis order
of nnU-Net's preprocessed arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_semisam.config import SemiSAMConfig
from nnunet_semisam.errors import UserError
from nnunet_semisam.prompts import PROMPTS
from nnunet_semisam.prompts.components import find_components
from nnunet_semisam.pseudo_labels.embedding_cache import EmbeddingCache
from nnunet_semisam.pseudo_labels.fusion import SAMWeights, fuse
from nnunet_semisam.pseudo_labels.layout import LabelLayout
from nnunet_semisam.pseudo_labels.opinion import AskCounts, SAMOpinion, ask
from nnunet_semisam.pseudo_labels.selection import shard
from nnunet_semisam.pseudo_labels.store import PseudoLabelStore
from nnunet_semisam.pseudo_labels.summary import RoundSummary, case_stats, summarize
from nnunet_semisam.sam.base import Embedding, PromptBatch, SAMBackend

KIND_OF_FIELD = {"boxes": "box", "points": "points", "mask_logits": "mask"}
VERSIONS_OF = ("nnunet-semisam", "nnunetv2", "torch", "segment-anything", "numpy", "blosc2")


@dataclass(frozen=True)
class CaseAnswer:
    """What SAM said about one case.

    Attributes:
        opinion: Arrays ``(F, Z, Y, X)``.
        counts: How the asking went.
        prompts: What was asked; ``image`` is the slice along the stage's axis.
        seconds: Time of ``encode`` and ``decode`` (prompts included).
        cache_hit: Whether the embedding was cached; ``None`` if none was needed.
    """

    opinion: SAMOpinion
    counts: AskCounts
    prompts: PromptBatch
    seconds: dict[str, float]
    cache_hit: bool | None


class PseudoLabelStage:
    """Refreshes the pseudo-labels of unlabeled cases.

    Args:
        config: The settings of the run.
        backend: The SAM.
        store: Where pseudo-labels go.
        cache: Where embeddings are kept.
        load_image: Returns a case's preprocessed image, ``(C, Z, Y, X)``, float32.
        predict: Returns the network's probabilities on such an image, ``(K, Z, Y, X)``: softmax with the background
            first, or sigmoid regions.
        layout: Which output channel means what.
        spacing: Voxel size of preprocessed images in mm, three axes (or two: slices of a 2D configuration).
        area_bounds: Smallest and largest share of a case's voxels per foreground channel among labeled cases.
        log: Receives lines for the training log.
        preview_folder: Where pictures of a few cases go; ``None`` writes none.

    Raises:
        UserError: If the prompt strategy asks in a way that the SAM does not understand, or the axis does not exist.
    """

    def __init__(
        self,
        config: SemiSAMConfig,
        backend: SAMBackend,
        store: PseudoLabelStore,
        cache: EmbeddingCache,
        *,
        load_image: Callable[[str], np.ndarray],
        predict: Callable[[np.ndarray], Tensor],
        layout: LabelLayout,
        spacing: Sequence[float],
        area_bounds: Sequence[tuple[float, float]] | None = None,
        log: Callable[[str], None] = lambda text: None,
        preview_folder: str | Path | None = None,
    ) -> None:
        self.config, self.backend, self.store, self.cache = config, backend, store, cache
        self.load_image, self.predict, self.layout = load_image, predict, layout
        self.area_bounds, self.log = area_bounds, log
        self.preview_folder = None if preview_folder is None else Path(preview_folder)
        self.strategy = PROMPTS.get(config.sam_prompt)
        self.axis = slice_axis(config.sam_axis, spacing)
        self.weights = SAMWeights.unmeasured(layout.channels)
        self.calibration: dict[str, Any] | None = None
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

    def refresh(
        self,
        round_index: int,
        cases: Sequence[str],
        class_trust: Sequence[float] | None,
        epoch: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        barrier: Callable[[], None] = lambda: None,
    ) -> RoundSummary:
        """Make one round. The previous round stays in place until this one is complete.

        Args:
            round_index: Number of the round.
            cases: All cases to refresh, the same list in every process.
            class_trust: Maturity of each output channel of the network, ``K`` numbers in [0, 1].
            epoch: Epoch of the network, for the provenance.
            rank: This process; process 0 opens and closes the round.
            world_size: How many processes share the work.
            barrier: Waits for the other processes; called after every case, so that none waits long enough to give up.

        Returns:
            Figures over all cases of all processes.
        """
        if rank == 0:
            self.store.begin(round_index)
        barrier()
        mine = shard(cases, rank, world_size)
        for i in range(len(shard(cases, 0, world_size))):
            if i < len(mine):
                self.refresh_case(round_index, mine[i], class_trust, preview=mine[i] in self._previewed(cases))
            barrier()
        if rank == 0:
            self.store.commit(round_index, self.provenance(epoch))
        barrier()
        stats = self.store.provenance(round_index)["cases"]
        summary = summarize(round_index, epoch, self.layout.names, [stats[case] for case in cases])
        self.log(summary.log_text())
        return summary

    def _previewed(self, cases: Sequence[str]) -> Sequence[str]:
        return cases[: self.config.sam_preview_cases] if self.preview_folder is not None else ()

    def refresh_case(
        self, round_index: int, case: str, class_trust: Sequence[float] | None, preview: bool = False
    ) -> None:
        """Write the pseudo-label of one case into a round that has begun."""
        seconds: dict[str, float] = {}
        with stopwatch(seconds, "load"):
            image = self.load_image(case)
        with stopwatch(seconds, "predict"):
            network = self.predict(image).detach().float().cpu().numpy()
        if not np.isfinite(network).all():
            raise ValueError(f"The network's probabilities of case {case!r} hold NaN; has the training diverged?")
        answer = self.ask_about(case, image, network)
        with stopwatch(seconds, "fuse"):
            fused = fuse(
                network,
                answer.opinion,
                self.layout,
                self.weights,
                class_trust,
                self.area_bounds,
                self.config.area_prior_factor,
            )
            stats = case_stats(
                network, answer.opinion, fused, answer.counts, self.layout, self.config.sam_trust_threshold
            )
        stats |= {"seconds": {**seconds, **answer.seconds}, "cache_hit": answer.cache_hit}
        self.store.write(round_index, case, fused.label, fused.trust, stats, self.config.sam_trust_threshold)

    def ask_about(self, case: str, image: np.ndarray, network: np.ndarray) -> CaseAnswer:
        """Return SAM's opinion on one case.

        Args:
            case: Name of the case, for the cache.
            image: ``(C, Z, Y, X)``, as nnU-Net preprocessed it.
            network: Whose components SAM is asked about: probabilities ``(K, Z, Y, X)``.
        """
        seconds = {"encode": 0.0, "decode": 0.0}
        probs = torch.from_numpy(np.ascontiguousarray(self._to_sam(self.layout.foreground(network))))
        with stopwatch(seconds, "decode"):
            prompts = self.strategy(probs, self.layout.prompt_labels, self.layout.has_regions)
            components = find_components(probs, self.layout.has_regions)
        if len(prompts) == 0:
            none = (0,) * self.layout.channels
            silence = SAMOpinion.silence(tuple(probs.shape[1:2]) + network.shape[1:])
            return CaseAnswer(silence, AskCounts(none, none, none), prompts, seconds, None)
        hits = self.cache.hits
        with stopwatch(seconds, "encode"):
            embedding = self._embedding(case, image)
        with stopwatch(seconds, "decode"):
            opinion, counts = ask(
                self.backend, embedding, prompts, components, self.layout.channels, 4 * self.config.sam_batch_size
            )
        opinion = SAMOpinion(**{name: self._from_sam(array) for name, array in vars(opinion).items()})
        return CaseAnswer(opinion, counts, prompts, seconds, self.cache.hits > hits)

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

    def provenance(self, epoch: int) -> dict[str, Any]:
        """Return how pseudo-labels are made now, ready for json."""
        settings = self.config.to_dict()
        return {
            "config": settings,
            "config_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            "sam_model": self.config.sam_model,
            "sam_fingerprint": self.backend.fingerprint,
            "network_epoch": epoch,
            "slice_axis": self.axis if self.backend.spatial_dims == 2 else None,
            "weights": dataclasses.asdict(self.weights),
            "calibration": self.calibration,
            "versions": {name: _version(name) for name in VERSIONS_OF},
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }


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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return None
