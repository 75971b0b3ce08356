"""Derive plans of a narrower network from nnU-Net's: the same pipeline and data, cheap enough for a few CPU cores."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_semisam.errors import UserError
from nnunet_semisam.io.json_files import object_or_none, read_object, write_json
from nnunet_semisam.io.regular_files import check_regular_file

FEWEST_STAGES = 3
SMALLEST_BOTTLENECK = 4  # voxels along the longest axis; nnU-Net's UNet_featuremap_min_edge_length


def inherited(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with all that it inherits, as nnU-Net resolves ``inherits_from``.

    Raises:
        ValueError: If the parent does not exist, or configurations inherit from each other in a circle.
    """
    line = [name]
    parent = configurations[name].get("inherits_from")
    while parent is not None:
        if parent in line:
            raise ValueError(f"{line[-1]} inherits from {parent}, in a circle")
        if parent not in configurations:
            raise ValueError(f"{line[-1]} inherits from {parent}, which is not in the plans")
        line.append(parent)
        parent = configurations[parent].get("inherits_from")
    whole: dict[str, Any] = {}
    for ancestor in reversed(line):
        whole |= configurations[ancestor]
    return whole


def narrow(
    configuration: dict[str, Any], patch: Sequence[int], batch: int, features: Sequence[int], name: str = ""
) -> dict[str, Any]:
    """Return a copy of a configuration of nnU-Net's plans with a smaller network, patch and batch.

    Preprocessing is not touched, so the data of the base plans are used as they are.

    Args:
        configuration: A configuration with a patch size and an architecture of its own.
        patch: Largest patch in voxels, one number per axis; an axis is never longer than in the base plans.
        batch: Largest batch size; it is never larger than in the base plans.
        features: Channels per stage, the finest first. As many stages are kept as the patch can be halved for.
        name: Name of the configuration, for error messages.

    Raises:
        UserError: If the patch has another number of axes, or leaves fewer than three stages.
    """
    result = copy.deepcopy(configuration)
    _check_sizes(configuration)
    base_patch = configuration["patch_size"]
    network = result["architecture"]["arch_kwargs"]
    if len(patch) != len(base_patch):
        raise UserError(f"The configuration {name} has patches of {len(base_patch)} axes, got {list(patch)}.")
    size = [min(int(wanted), int(most)) for wanted, most in zip(patch, base_patch, strict=True)]
    stages = _stages_that_fit(size, network["strides"][: len(features)])
    if stages < min(FEWEST_STAGES, network["n_stages"]):
        raise UserError(
            f"The patch {size} of the configuration {name} can be halved for {stages} stage(s) only; {FEWEST_STAGES} "
            f"are needed. Choose sizes that are multiples of 16 (the base plans have {list(base_patch)})."
        )
    _cut_lists(network, stages)
    network["features_per_stage"] = list(features[:stages])
    result["patch_size"], result["batch_size"] = size, min(batch, configuration["batch_size"])
    return result


def _check_sizes(configuration: dict[str, Any]) -> None:
    """Raise ValueError if a size is no positive whole number: nnU-Net would say so at the first step."""
    network = configuration["architecture"]["arch_kwargs"]
    sizes = [*configuration["patch_size"], configuration["batch_size"], network["n_stages"]]
    sizes += [step for stage in network["strides"] for step in ([stage] if isinstance(stage, int) else stage)]
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(
                f"patch_size, batch_size, n_stages and strides must be positive whole numbers, got {size!r}"
            )


def _stages_that_fit(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> int:
    """Return how many stages leave every axis a whole number, and the longest one wide enough."""
    size = list(patch)
    count = 0
    for stride in strides:
        steps = [int(step) for step in stride]
        if any(length % step for length, step in zip(size, steps, strict=True)):
            break
        size = [length // step for length, step in zip(size, steps, strict=True)]
        if max(size) < min(SMALLEST_BOTTLENECK, max(patch)):
            break
        count += 1
    return count


def _cut_lists(network: dict[str, Any], stages: int) -> None:
    """Shorten every list that has an entry per stage, whatever the architecture calls it; decoders have one less."""
    before = network["n_stages"]
    for key, value in network.items():
        if isinstance(value, list) and len(value) == before:
            network[key] = value[:stages]
        elif isinstance(value, list) and len(value) == before - 1:
            network[key] = value[: stages - 1]
    network["n_stages"] = stages


def doubled(first: int, most: int, count: int) -> list[int]:
    """Return channels that double from stage to stage up to a bound: 8, 16, 32, 64, 80, 80."""
    return [min(first * 2**stage, most) for stage in range(count)]


def is_anisotropic(configuration: dict[str, Any]) -> bool:
    """Return whether nnU-Net treats one axis as much coarser: its first kernels do not span it."""
    return min(configuration["architecture"]["arch_kwargs"]["kernel_sizes"][0]) == 1


def write_plans(folder: Path, plans: dict[str, Any], overwrite: bool) -> tuple[Path, bool]:
    """Write plans beside nnU-Net's.

    Returns:
        The file, and whether it was written (not if it was there with the same content).

    Raises:
        UserError: If other plans of that name are there and ``overwrite`` is off.
    """
    path = folder / f"{plans['plans_name']}.json"
    if os.path.lexists(path):
        remedy = "Use --overwrite if there are no models worth keeping that were trained with it, or another --name."
        check_regular_file(path, "Remove it, or choose another --name.")
        if object_or_none(path) == plans:
            return path, False
        if not overwrite:
            read_object(path, remedy)
            raise UserError(f"{path} exists and differs, so that models trained with it would no longer fit. {remedy}")
    try:
        write_json(path, plans)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}). Make room, or see who may write there.") from error
    return path, True


def parameters(configuration: dict[str, Any]) -> int:
    """Return roughly how many weights a plain convolutional U-Net of this configuration has."""
    network = configuration["architecture"]["arch_kwargs"]
    total, before = 0, 1
    for stage, width in enumerate(network["features_per_stage"]):
        kernel = math.prod(network["kernel_sizes"][stage])
        total += kernel * width * (before + width)  # two convolutions of the encoder
        if stage > 0:
            total += kernel * width * 3 * width  # and two of the decoder, of which one gets twice the channels
        before = width
    return total
