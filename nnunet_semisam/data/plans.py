"""nnU-Net's plans as far as preprocessing goes: every value that it uses, checked before the first image is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_semisam.data.dataset_json import channel_names
from nnunet_semisam.data.image_headers import reason
from nnunet_semisam.errors import UserError, shown
from nnunet_semisam.io.names import case_problem

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager


def checked_configuration(
    plans: Mapping[str, Any], name: str, dataset_json: Mapping[str, Any], where: str | Path
) -> ConfigurationManager:
    """Return a configuration of the plans with which images can be preprocessed.

    Args:
        plans: nnU-Net's plans.
        name: Name of the configuration.
        dataset_json: nnU-Net's dataset.json, which knows the channels.
        where: The plans file, for the error.

    Raises:
        UserError: If preprocessing would stop, write elsewhere, or make no image of use with these plans.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    channels = len(channel_names(dataset_json))
    try:
        manager = PlansManager(dict(plans))
        configuration = manager.get_configuration(name)
        _check_whole_plans(plans, channels)
        _check_configuration(configuration.configuration, channels)
        for found in (manager.image_reader_writer_class, configuration.preprocessor_class):
            if found is None:
                raise ValueError("its reader or its preprocessor is unknown to nnU-Net")
        _check_classes(configuration)
    except Exception as error:  # whatever nnU-Net raises for what it does not find
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(
            f"{where}: nothing can be preprocessed with the configuration {shown(name)} ({kind}{reason(error)}). Plan "
            "the dataset again (nnUNetv2_plan_experiment), or correct the plans."
        ) from error
    return configuration


def _check_whole_plans(plans: Mapping[str, Any], channels: int) -> None:
    if sorted(_list(plans, "transpose_forward", 3)) != [0, 1, 2]:
        raise ValueError(f"transpose_forward must be an order of 0, 1, 2, got {shown(plans['transpose_forward'])}")
    _check_positive(plans, "original_median_spacing_after_transp", (3,))
    _check_positive(plans, "original_median_shape_after_transp", (3,))
    intensities = plans["foreground_intensity_properties_per_channel"]
    if not isinstance(intensities, dict) or any(str(channel) not in intensities for channel in range(channels)):
        raise ValueError(f"foreground_intensity_properties_per_channel must have an entry for each of {channels}")


def _check_configuration(content: Mapping[str, Any], channels: int) -> None:
    problem = case_problem(content["data_identifier"])
    if problem is not None:
        raise ValueError(f"data_identifier {shown(content['data_identifier'])} cannot name a folder: {problem}")
    _check_positive(content, "spacing", (2, 3))
    _check_positive(content, "patch_size", (2, 3), whole=True)
    if "median_image_size_in_voxels" in content:
        _check_positive(content, "median_image_size_in_voxels", (2, 3))
    for name, kind in (("normalization_schemes", str), ("use_mask_for_norm", bool)):
        values = _list(content, name, channels)
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"{name} must be a list of {kind.__name__}, got {shown(values)}")


def _check_positive(content: Mapping[str, Any], name: str, lengths: tuple[int, ...], whole: bool = False) -> None:
    values = _list(content, name, *lengths)
    for value in values:
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value < 1e9 or not math.isfinite(value):
            raise ValueError(f"{name} must hold positive numbers, got {shown(values)}")


def _list(content: Mapping[str, Any], name: str, *lengths: int) -> list[Any]:
    values = content[name]
    if not isinstance(values, list) or len(values) not in lengths:
        raise ValueError(f"{name} must be a list of {' or '.join(map(str, lengths))}, got {shown(values)}")
    return values


def _check_classes(configuration: ConfigurationManager) -> None:
    """Let nnU-Net look for what it otherwise looks for at the first image."""
    from nnunetv2.preprocessing.normalization import default_normalization_schemes
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = str(Path(default_normalization_schemes.__file__).parent)
    for scheme in configuration.normalization_schemes:
        if recursive_find_python_class(folder, scheme, "nnunetv2.preprocessing.normalization") is None:
            raise ValueError(f"normalization_schemes: nnU-Net has no {shown(scheme)}")
    configuration.resampling_fn_data  # noqa: B018  a property that looks for the function
