"""Build the generalists that the settings of a run name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist, SAMParts
from nnunet_semisam.generalists.settings import GeneralistSettings
from nnunet_semisam.generalists.views import choose_view, slice_axis
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts import FILTERS, PROMPTS, REFINEMENTS
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.settings import Settings

EMBEDDINGS_FOLDER = "semisam_embeddings"


def build_ensemble(
    settings: Settings, labels: Labels, cache: EmbeddingCache, spacing: Sequence[float], device: torch.device
) -> GeneralistEnsemble:
    """Return all generalists of a run as one.

    Args:
        settings: The settings of the run; ``sam.models`` names the generalists.
        labels: What the network's output channels mean.
        cache: Where embeddings are kept.
        spacing: Spacing of the configuration in mm, two or three axes.
        device: Where the SAMs run.

    Raises:
        UserError: If a SAM cannot be loaded, or does not fit its prompts or view.
    """
    members = []
    for name in settings.block("sam").models:
        block: GeneralistSettings = settings.block(name)
        options = BackendOptions(device, block.checkpoint, settings.block("sam").batch_size, settings.run.cpu_bfloat16)
        backend = build_backend(name, options)
        members.append(build_generalist(name, backend, settings, labels, cache, spacing))
    return GeneralistEnsemble(members, labels.channels)


def build_generalist(
    name: str,
    backend: SAMBackend,
    settings: Settings,
    labels: Labels,
    cache: EmbeddingCache,
    spacing: Sequence[float],
) -> SAMGeneralist:
    """Return the generalist of one loaded SAM; ``name`` is its block of settings. See :func:`build_ensemble`."""
    block: GeneralistSettings = settings.block(name)
    prompts = settings.block("prompts")
    view = choose_view(block.view, block.axis, backend.spatial_dims, spacing)
    parts = SAMParts(
        backend=backend,
        view=view,
        strategy=PROMPTS.get(block.prompt)(prompts),
        component_filter=FILTERS.get(block.filter),
        refinement=REFINEMENTS.get(block.refinement)(prompts),
        cache=cache.of(backend.fingerprint, view.name, block.channel),
        components=settings.block("components"),
        rejection=settings.block("rejection"),
        channel=block.channel,
        picture_axis=slice_axis(spacing) if block.axis is None else block.axis,
        batch_size=settings.block("sam").batch_size,
    )
    return SAMGeneralist(name, parts, labels)


def embedding_cache(settings: Settings, preprocessed_dataset: Path, data_identifier: str) -> EmbeddingCache:
    """Return the cache of a data set's embeddings, bounded by ``sam.cache_gb``."""
    return EmbeddingCache(preprocessed_dataset / EMBEDDINGS_FOLDER, data_identifier, settings.block("sam").cache_gb)
