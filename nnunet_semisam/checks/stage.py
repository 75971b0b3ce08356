"""The stage of pseudo-labels: generalists, their weights, what they see, and where voxels are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from nnunet_semisam.checks.plans import Plan
from nnunet_semisam.data.geometry import geometry_file, read_geometry
from nnunet_semisam.data.raw_files import image_files
from nnunet_semisam.errors import UserError, name_some
from nnunet_semisam.generalists.build import (
    backend_of_settings,
    build_generalist,
    check_generalist_settings,
    embedding_cache,
)
from nnunet_semisam.generalists.sam_generalist import SAMGeneralist
from nnunet_semisam.generalists.settings import check_generalist
from nnunet_semisam.generalists.video_sam import VideoSAMSettings, load_video_sam
from nnunet_semisam.generalists.views import choose_view
from nnunet_semisam.io.tensor_files import check_finite
from nnunet_semisam.sam import BackendOptions, build_backend
from nnunet_semisam.sam.checkpoints import find_weights
from nnunet_semisam.sam.families import FAMILIES
from nnunet_semisam.settings import Settings


def look_at_generalists(settings: Settings, plan: Plan, preprocessed: Path, fetch: bool) -> tuple[list[str], bool]:
    """Build the generalists of a run as it does when it starts, on the CPU.

    Args:
        settings: The settings of the run.
        plan: The configuration.
        preprocessed: ``$nnUNet_preprocessed/DATASET``.
        fetch: Whether published weights may be downloaded: machines of a cluster often have no network.

    Returns:
        What is wrong with them, and whether one cannot do without the geometry of every case.
    """
    models = settings.block("sam").models
    if not models:
        return ["The settings ask for generalists (use_sam: true), but sam: {models: []} names none. Name one."], False
    problems = []
    needs_spacing = False
    for name in models:
        try:
            check_generalist(name)
            check_generalist_settings(name, settings, plan.channels)
            if name in FAMILIES:
                needs_spacing |= _needs_spacing(name, settings, plan, preprocessed, fetch)
            elif name == "prototypes":
                needs_spacing |= _prototypes_need_spacing(settings, plan, fetch)
            elif isinstance(settings.block(name), VideoSAMSettings):
                _look_at_video_sam(name, settings, plan, fetch)
        except UserError as error:
            problems.append(str(error))
    return problems, needs_spacing


def _needs_spacing(name: str, settings: Settings, plan: Plan, preprocessed: Path, fetch: bool) -> bool:
    """Return whether the view of a SAM needs the geometry of cases, after checking all of the SAM."""
    weights = find_weights(name, settings.block(name).checkpoint, fetch)
    backend = backend_of_settings(name, settings, torch.device("cpu"))
    cache = embedding_cache(settings, preprocessed, plan.configuration.data_identifier)
    built: SAMGeneralist = build_generalist(name, backend, settings, plan.labels, cache, plan.configuration.spacing)
    check_finite(built.parts.backend.module.state_dict(), weights, "Get the weights again, or name another file.")
    return built.parts.view.needs_spacing


def _prototypes_need_spacing(settings: Settings, plan: Plan, fetch: bool) -> bool:
    """Return whether the view of the prototypes' SAM needs the geometry of cases, after checking that SAM."""
    block = settings.block("prototypes")
    weights = find_weights(block.encoder, block.checkpoint, fetch)
    backend = build_backend(block.encoder, BackendOptions(torch.device("cpu"), block.checkpoint))
    check_finite(backend.module.state_dict(), weights, "Get the weights again, or name another file.")
    return choose_view(block.view, block.axis, backend.spatial_dims, plan.configuration.spacing).needs_spacing


def _look_at_video_sam(name: str, settings: Settings, plan: Plan, fetch: bool) -> None:
    """Check all of a generalist that follows objects with the memory of a SAM; it needs no geometry."""
    block: VideoSAMSettings = settings.block(name)
    find_weights(block.model, block.checkpoint, fetch)
    load_video_sam(name, settings, torch.device("cpu"))


def problems_of_geometry(
    plan: Plan, preprocessed: Path, raw: Path, cases: Iterable[str], needed: bool
) -> Iterator[str]:
    """Yield what is wrong with the geometry files of cases; one that is missing is made from its raw image.

    Args:
        plan: The configuration.
        preprocessed: ``$nnUNet_preprocessed/DATASET``.
        raw: ``$nnUNet_raw/DATASET``.
        cases: Labeled, hidden and unlabeled cases of the fold.
        needed: Whether a view cannot do without.
    """
    without = []
    for case in cases:
        try:
            if read_geometry(preprocessed, case) is None:
                without.append(case)
        except UserError as error:
            yield str(error)
    if not without or not needed:
        return
    images = image_files(raw, plan.dataset_json)
    known = {**images["Ul"], **images["Tr"]}
    lost = [case for case in without if case not in known or not Path(known[case][0]).is_file()]
    if lost:
        yield (
            f"{len(lost)} cases have no geometry file ({geometry_file(preprocessed, lost[0])}), and their raw images "
            f"are not in {raw}: {name_some(lost, 5)}. A view of the settings needs it. Run nnunet-semisam preprocess "
            "where the raw images are, or set view: null."
        )
