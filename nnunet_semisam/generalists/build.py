"""Build the generalists that the settings of a run name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import nnunet_semisam.generalists.nninteractive  # noqa: F401  registers it
from nnunet_semisam.errors import UserError
from nnunet_semisam.generalists import label_propagation, propagation, prototypes  # noqa: F401  register themselves
from nnunet_semisam.generalists.augmented import AugmentedGeneralist, versions
from nnunet_semisam.generalists.base import Generalist, GeneralistContext
from nnunet_semisam.generalists.embedding_cache import EmbeddingCache
from nnunet_semisam.generalists.ensemble import GeneralistEnsemble
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist, SAMParts
from nnunet_semisam.generalists.settings import (
    GENERALIST_CHECKS,
    GENERALISTS,
    THREE_AXES,
    GeneralistSettings,
    models_in_use,
)
from nnunet_semisam.generalists.three_axes import ThreeAxesGeneralist
from nnunet_semisam.generalists.tiled_sam import TiledSAMGeneralist
from nnunet_semisam.generalists.tiles import Tiles
from nnunet_semisam.generalists.views import View, choose_view, slice_axis
from nnunet_semisam.labels import Labels
from nnunet_semisam.prompts import FILTERS, PROMPTS, REFINEMENTS
from nnunet_semisam.sam import BackendOptions
from nnunet_semisam.sam.adapters.adapter_file import read_adapter, refuse_leaking_adapter
from nnunet_semisam.sam.adapters.build import build_adapted
from nnunet_semisam.sam.base import SAMBackend
from nnunet_semisam.sam.detect import family_of
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.settings import Settings

EMBEDDINGS_FOLDER = "semisam_embeddings"


def check_generalists(settings: Settings, image_channels: int | None = None) -> None:
    """Refuse what could not be built in a training, without loading weights: before anything is started.

    Args:
        settings: The settings of the run.
        image_channels: How many channels the images have; ``None``: not known.

    Raises:
        UserError: If a prompt strategy, component filter or refinement does not exist, a SAM does not understand the
            strategy's prompts, or the images lack the channel.
    """
    for name in settings.block("sam").models:
        check_generalist_settings(name, settings, image_channels)


def check_generalist_settings(name: str, settings: Settings, image_channels: int | None = None) -> None:
    """Refuse the settings of one generalist of a run; see :func:`check_generalists`."""
    if name in GENERALIST_CHECKS:
        GENERALIST_CHECKS[name](settings)
    _check_channel(name, settings, image_channels)
    if name not in FAMILIES:
        return
    block: GeneralistSettings = settings.block(name)
    row = family_of(name, block.checkpoint)
    try:
        prompts = block.strategies(row)
        strategies = [PROMPTS.get(prompt)(settings.block("prompts")) for prompt in prompts]
        FILTERS.get(block.filter)
        refinement = REFINEMENTS.get(block.refinement)
    except UserError as error:
        raise UserError(f"In the block {name!r} of the settings: {error}") from None
    if not refinement.kinds <= frozenset(row.prompts):
        raise UserError(
            f"{row.name} does not understand the prompts of the refinement {block.refinement!r} "
            f"({', '.join(sorted(refinement.kinds))}): it was trained with {', '.join(row.prompts)}. "
            f"Set {name}: {{refinement: ...}} to another one."
        )
    for prompt, strategy in zip(prompts, strategies, strict=True):
        if not strategy.kinds <= frozenset(row.prompts):
            raise UserError(
                f"{row.name} does not understand the prompts of the strategy {prompt!r} "
                f"({', '.join(sorted(strategy.kinds))}): it was trained with {', '.join(row.prompts)}. "
                f"Set {name}: {{prompt: ...}} to another of: {', '.join(PROMPTS.names())}."
            )


def _check_channel(name: str, settings: Settings, image_channels: int | None) -> None:
    channel = getattr(settings.block(name), "channel", 0)
    if image_channels is not None and channel >= image_channels:
        raise UserError(
            f"The setting {name}: {{channel: {channel}}} names a channel that the images lack: they have "
            f"{image_channels}, counted from 0."
        )


def refuse_leaking_adapters(settings: Settings, dataset: str, withheld: Sequence[str]) -> None:
    """Refuse adapters that learned from labels which a training must not see, before anything is started.

    Args:
        settings: The settings of the run; adapters of models that it does not load are not looked at.
        dataset: Name of its data set.
        withheld: Validation and hidden cases of its fold.

    Raises:
        UserError: If there is one, or a file is no adapter.
    """
    stage = settings.block("sam")
    for name in models_in_use(settings):
        file = settings.block(name).adapter if name in FAMILIES else None
        if file is not None:
            record = read_adapter(Path(file).expanduser()).record
            refuse_leaking_adapter(record, file, dataset, withheld, stage.adapters_of_other_patients)


def build_ensemble(context: GeneralistContext) -> GeneralistEnsemble:
    """Return all generalists of a run as one.

    Args:
        context: What they are built of.

    Raises:
        UserError: If there is no generalist of a name, or a SAM cannot be loaded or does not fit its prompts or view.
    """
    members = [member for name in context.settings.block("sam").models for member in _build(name, context)]
    return GeneralistEnsemble(members, context.labels.channels)


def _build(name: str, context: GeneralistContext) -> list[Generalist]:
    """Return a generalist, or those of one SAM: one for each of its prompt strategies."""
    if name not in FAMILIES:
        return [GENERALISTS.get(name)(context)]
    backend = backend_of_settings(name, context.settings, context.device)
    built = (name, backend, context.settings, context.labels, context.cache, context.spacing)
    block: GeneralistSettings = context.settings.block(name)
    _, *further = block.strategies(family_of(name, block.checkpoint))
    members = [build_generalist(*built), *(build_generalist(*built, prompt=prompt) for prompt in further)]
    for member in members:
        member.model, member.learned = name, _learned_cases(block, context)
    return members


def _learned_cases(block: GeneralistSettings, context: GeneralistContext) -> frozenset[str]:
    """Return the labeled cases that a model's adapter learned from."""
    if block.adapter is None:
        return frozenset()
    record = read_adapter(Path(block.adapter).expanduser()).record
    others = context.settings.block("sam").adapters_of_other_patients and record.dataset != context.dataset
    return frozenset(() if others else record.learned)


def backend_of_settings(name: str, settings: Settings, device: torch.device) -> SAMBackend:
    """Return the SAM of a name with the weights that its block of settings names.

    Args:
        name: Of a model in the table of families.
        settings: The settings of the run.
        device: Where it runs.

    Raises:
        UserError: If there is no such model, its weights cannot be loaded, or its adapter is one of other weights.
    """
    block, batch_size = settings.block(name), settings.block("sam").batch_size
    options = BackendOptions(device, block.checkpoint, batch_size, settings.run.cpu_bfloat16)
    return build_adapted(name, options, block.adapter)


def build_generalist(
    name: str,
    backend: SAMBackend,
    settings: Settings,
    labels: Labels,
    cache: EmbeddingCache,
    spacing: Sequence[float],
    prompt: str | None = None,
) -> SAMGeneralist | AugmentedGeneralist | ThreeAxesGeneralist:
    """Return a generalist of one loaded SAM; ``name`` is its block of settings. See :func:`build_ensemble`.

    ``prompt`` names one of the block's further prompt strategies; ``None`` takes its first.
    """
    block: GeneralistSettings = settings.block(name)
    if block.view == THREE_AXES:
        return _along_three_axes(name, backend, settings, labels, cache, spacing, prompt)
    prompts = settings.block("prompts")
    strategy = prompt or block.strategies(family_of(name, block.checkpoint))[0]
    view = _view_of(name, block, backend, spacing)
    parts = SAMParts(
        backend=backend,
        view=view,
        strategy=PROMPTS.get(strategy)(prompts),
        component_filter=FILTERS.get(block.filter)(prompts),
        refinement=REFINEMENTS.get(block.refinement)(prompts),
        cache=cache.of(backend.fingerprint, view.name, block.channel),
        components=settings.block("components"),
        rejection=settings.block("rejection"),
        channel=block.channel,
        picture_axis=slice_axis(spacing) if block.axis is None else block.axis,
        batch_size=settings.block("sam").batch_size,
    )
    called = name if prompt is None else f"{name}_{prompt}"
    kind = TiledSAMGeneralist if isinstance(view, Tiles) else SAMGeneralist
    first = kind(called, parts, labels)
    if block.augmented_images == 0:
        return first
    changes = versions(block.augmented_images, first.axis, block.augmentation_noise)
    folders = [cache.of(backend.fingerprint, f"{view.name}-{each.name}", block.channel) for each in changes[1:]]
    further = [kind(called, replace(parts, cache=folder), labels) for folder in folders]
    return AugmentedGeneralist([first, *further], changes)


def _view_of(name: str, block: GeneralistSettings, backend: SAMBackend, spacing: Sequence[float]) -> View | Tiles:
    """Return the view of a generalist: tiles for models that take nothing else."""
    chosen = block.view or ("tiles" if backend.tile_side is not None else None)
    if (chosen == "tiles") != (backend.tile_side is not None):
        takes = (
            "images of any size" if backend.tile_side is None else f"tiles of {backend.tile_side} voxels a side only"
        )
        raise UserError(
            f"The setting {name}: {{view: {chosen}}} does not fit: the model takes {takes}. Set it to null."
        )
    if backend.tile_side is not None:
        return Tiles(backend.tile_side, block.tile_spacing, block.tile_step)
    return choose_view(chosen, block.axis, backend.spatial_dims, spacing)


def _along_three_axes(
    name: str,
    backend: SAMBackend,
    settings: Settings,
    labels: Labels,
    cache: EmbeddingCache,
    spacing: Sequence[float],
    prompt: str | None,
) -> ThreeAxesGeneralist:
    """Return the majority of the generalists of a 2D SAM along each axis."""
    if backend.spatial_dims != 2 or len(spacing) != 3:
        raise UserError(
            f"The setting {name}: {{view: {THREE_AXES}}} needs a 2D model and a 3D configuration; the model takes "
            f"images of {backend.spatial_dims} axes, and the configuration has {len(spacing)}. Set view to null."
        )
    block: GeneralistSettings = settings.block(name)
    looks = []
    for axis in range(3):
        along = settings.replace({name: {"view": "slices", "axis": axis}}, f"the view {THREE_AXES}")
        looks.append(build_generalist(name, backend, along, labels, cache, spacing, prompt))
    return ThreeAxesGeneralist(looks, slice_axis(spacing) if block.axis is None else block.axis)


def embedding_cache(settings: Settings, preprocessed_dataset: Path, data_identifier: str) -> EmbeddingCache:
    """Return the cache of a data set's embeddings, bounded by ``sam.cache_gb``."""
    return EmbeddingCache(preprocessed_dataset / EMBEDDINGS_FOLDER, data_identifier, settings.block("sam").cache_gb)
